// Says whether the server can be reached from this page, until there is more to see.
const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
const socket = new WebSocket(`${scheme}://${location.host}/`);
const state = document.querySelector('#state');

socket.onopen = () => {
  state.textContent = 'This browser can reach it.';
  socket.close();
};
socket.onerror = () => {
  state.textContent = 'This browser cannot open a WebSocket to it.';
};
