// Logs in on Node and `ws`, says hello, moves, and prints each message it is sent, a line each. Usage: URL USER
import { WebSocket } from 'ws';

const [url, user] = process.argv.slice(2);
const socket = new WebSocket(url);
const say = (message) => socket.send(JSON.stringify(message));

socket.on('open', () => say({ system: 'login', options: { user, pass: 'node' } }));
socket.on('message', (bytes, isBinary) => {
  console.log(isBinary ? 'binary' : bytes.toString());
  const message = JSON.parse(bytes);
  if (message.info !== 'user') return;
  for (const entry of message.payload) {
    if (entry.type === 'join' && entry.user === user) {
      say({ room: 'lobby', data: 'hello from Node 👋' });
      say({ room: 'lobby', type: 'transform', data: { pos: { y: 1.6 }, hands: { left: null } } });
      socket.ping();
    }
    if (entry.data === 'goodbye') socket.close(1000, 'goodbye');
  }
});
socket.on('pong', () => console.log('pong'));
socket.on('close', (code) => console.log(`closed ${code}`));
socket.on('error', (error) => { console.error(error); process.exitCode = 1; });
