-- What the engine does, as `_backplane.py` says, each request whole. `_engine_state.py` is the same in plain Python.
--
-- KEYS[1]: what all keys begin with. ARGV[1]: the request, ARGV[2]: the settings, both as MessagePack, as is the reply.
-- Keys, NAME being a room, ID a node:
--   clock         hash    beat, settled: in microseconds, as all times
--   nodes         zset    ID by when it is dead; 0: it is
--   applied       hash    ID -> the number of its last happening that was applied
--   held:ID       hash    "n" KEY -> ""; "m" NAME "\n" KEY -> "" (no name holds a line break)
--   names         hash    KEY -> lease
--   look:LOOK     hash    KEY -> USER
--   rooms         set     NAME of those with members
--   room:NAME     hash    last, comings_lost, said_lost
--   members:NAME  hash    KEY -> join
--   comings:NAME  stream  joins and leaves, the ID of each its time
--   said:NAME     stream  what was said, likewise
--   accounts      hash    KEY -> account
--   account_keys  zset    KEY, each by 0: in their order
--   account_look:LOOK  hash  KEY -> its name
-- Published: on to:NAME what happened in a room, on node:ID what was taken from a node.

local prefix, request, settings = KEYS[1], cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local call = redis.call

local function key(kind, name)
  return prefix .. kind .. (name and (':' .. name) or '')
end

-- Lua's own text of a number this large loses digits.
local function text(number)
  return string.format('%.0f', number)
end

local function number_at(hash, field)
  return tonumber(call('HGET', hash, field)) or 0
end

local now = settings.now
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Nodes

local function note_beat()
  local beat = number_at(key('clock'), 'beat')
  if beat == 0 then
    call('HSET', key('clock'), 'settled', text(now + settings.settle))
  elseif now - beat > settings.gap then
    for _, node in ipairs(call('ZRANGEBYSCORE', key('nodes'), '(0', '(' .. text(now + settings.settle))) do
      call('ZADD', key('nodes'), text(now + settings.settle), node)
    end
  end
  call('HSET', key('clock'), 'beat', text(now))
end

local function lives(node)
  local expires = call('ZSCORE', key('nodes'), node)
  return expires and tonumber(expires) > 0
end

local function standing(node)
  call('ZADD', key('nodes'), text(now + settings.lease), node)
  return { is = 'standing', settles_in = math.max(0, number_at(key('clock'), 'settled') - now) }
end

-- Names

-- The names of one look in this hash, by the order of their keys; nil where all are among those `beside`.
local function alike_but(look, beside)
  local allowed = {}
  for _, other in ipairs(beside) do
    allowed[other] = true
  end
  local there = call('HGETALL', look)
  local keys, names = {}, {}
  local all_allowed = true
  for index = 1, #there, 2 do
    keys[#keys + 1] = there[index]
    names[there[index]] = there[index + 1]
    all_allowed = all_allowed and allowed[there[index]]
  end
  if all_allowed then
    return nil
  end
  table.sort(keys)
  local users = {}
  for _, other in ipairs(keys) do
    users[#users + 1] = names[other]
  end
  return users
end

local function forget_name(lease)
  call('HDEL', key('names'), lease.key)
  call('HDEL', key('held', lease.node), 'n' .. lease.key)
  call('HDEL', key('look', lease.look), lease.key)
end

-- Rooms

local function keep_last(stream, limit, room, lost)
  local over = call('XLEN', stream) - limit
  if over > 0 then
    local oldest = call('XRANGE', stream, '-', '+', 'COUNT', over)
    local newest_lost = oldest[#oldest][1]
    call('XTRIM', stream, 'MAXLEN', limit)
    call('HSET', room, lost, (string.match(newest_lost, '^%d+')))
  end
end

-- Each happening is {number, kind, key, user, body}.
local function happen(name, happenings, node, floor, keep)
  local room, members = key('room', name), key('members', name)
  local comings, said = key('comings', name), key('said', name)
  local after = number_at(room, 'last')
  local last, events, has_said = after, {}, false
  for _, happening in ipairs(happenings) do
    local number, kind, member, user, body = unpack(happening)
    last = math.max(now, last + 1, floor + 1)
    local event = { last, node, number, kind, member, user, body }
    events[#events + 1] = event
    local packed = cmsgpack.pack(event)
    if kind == 'say' then
      call('XADD', said, text(last) .. '-0', 'e', packed)
      has_said = true
    else
      local before = call('HGET', members, member)
      local field = 'm' .. name .. '\n' .. member
      if before then
        call('HDEL', members, member)
        call('HDEL', key('held', cmsgpack.unpack(before)[2]), field)
      end
      if kind == 'join' then
        call('HSET', members, member, packed)
        call('HSET', key('held', node), field, '')
      end
      call('XADD', comings, text(last) .. '-0', 'e', packed)
    end
  end
  call('HSET', room, 'last', text(last))
  if after == 0 then
    -- Whoever has seen something before has seen it in an engine that has lost its memory.
    call('HSET', room, 'comings_lost', text(events[1][1] - 1))
  end
  if has_said then
    keep_last(said, keep, room, 'said_lost')
  end
  keep_last(comings, settings.comings_kept, room, 'comings_lost')
  if call('HLEN', members) == 0 then
    call('SREM', key('rooms'), name)
    call('DEL', comings)
    call('HSET', room, 'comings_lost', text(last))
  else
    call('SADD', key('rooms'), name)
  end
  call('PUBLISH', key('to', name), cmsgpack.pack({ name, after, events }))
end

local function events_of(entries)
  local events = {}
  for _, entry in ipairs(entries) do
    events[#events + 1] = cmsgpack.unpack(entry[2][2])
  end
  return events
end

local function by_time(one, other)
  return one[1] < other[1]
end

-- Requests, by their names

local requests = {}

function requests.register()
  note_beat()
  return standing(request.node)
end

function requests.refresh()
  note_beat()
  if not lives(request.node) then
    return { is = 'unknown' }
  end
  return standing(request.node)
end

function requests.retire()
  call('ZADD', key('nodes'), 'XX', 0, request.node)
  return { is = 'done' }
end

function requests.claim()
  local lease = request.lease
  if not lives(lease.node) then
    return { is = 'unknown' }
  end
  local held = call('HGET', key('names'), lease.key)
  if held then
    held = cmsgpack.unpack(held)
    if held.token ~= lease.token and held.token ~= request.instead_of then
      return { is = 'held', lease = held }
    end
    if held.node ~= lease.node then
      call('PUBLISH', key('node', held.node), cmsgpack.pack({ held.key, held.token }))
    end
    forget_name(held)
  elseif not request.again then
    local settled = number_at(key('clock'), 'settled')
    if now < settled then
      return { is = 'settling', microseconds = settled - now }
    end
    local users = alike_but(key('look', lease.look), request.beside)
    if users then
      return { is = 'alike', users = users }
    end
  end
  call('HSET', key('names'), lease.key, cmsgpack.pack(lease))
  call('HSET', key('held', lease.node), 'n' .. lease.key, '')
  call('HSET', key('look', lease.look), lease.key, lease.user)
  return { is = 'granted' }
end

function requests.release()
  if not lives(request.node) then
    return { is = 'unknown' }
  end
  local held = call('HGET', key('names'), request.key)
  if held then
    held = cmsgpack.unpack(held)
    if held.token == request.token then
      forget_name(held)
    end
  end
  return { is = 'done' }
end

function requests.append()
  local node, name = request.node, request.room
  if not lives(node) then
    return { is = 'unknown' }
  end
  local members = key('members', name)
  local applied = number_at(key('applied'), node)
  local count = call('HLEN', members)
  local there = {}
  -- By which node a member is there; false: by none.
  local function node_of(member)
    if there[member] == nil then
      local join = call('HGET', members, member)
      there[member] = join and cmsgpack.unpack(join)[2] or false
    end
    return there[member]
  end
  local refused, happenings = {}, {}
  for index, happening in ipairs(request.happenings) do
    local number = request.first + index - 1
    local kind, member, user, body = unpack(happening)
    if number > applied then
      applied = number
      local holder = node_of(member)
      local happens = true
      if kind == 'join' then
        if not holder then
          happens = request.members_limit == 0 or count < request.members_limit
          count = count + (happens and 1 or 0)
        end
        if happens then
          there[member] = node
        end
      elseif holder ~= node then
        happens = false
      elseif kind == 'leave' then
        there[member] = false
        count = count - 1
      end
      if happens then
        happenings[#happenings + 1] = { number, kind, member, user, body }
      elseif kind ~= 'leave' then
        refused[#refused + 1] = number
      end
    end
  end
  call('HSET', key('applied'), node, text(applied))
  if #happenings > 0 then
    happen(name, happenings, node, request.floor, request.keep)
  end
  return { is = 'appended', refused = refused }
end

function requests.enter()
  local room = key('room', request.room)
  local members = {}
  for _, join in ipairs(call('HVALS', key('members', request.room))) do
    members[#members + 1] = cmsgpack.unpack(join)
  end
  table.sort(members, by_time)
  local newest = call('XREVRANGE', key('said', request.room), '+', '-', 'COUNT', request.history + 1)
  local forgotten_until = number_at(room, 'said_lost')
  if #newest > request.history then
    forgotten_until = tonumber((string.match(newest[#newest][1], '^%d+')))
    newest[#newest] = nil
  end
  local history = {}
  for index = #newest, 1, -1 do
    history[#history + 1] = cmsgpack.unpack(newest[index][2][2])
  end
  return {
    is = 'snapshot',
    last = number_at(room, 'last'),
    members = members,
    history = history,
    forgotten_until = forgotten_until,
  }
end

function requests.readon()
  local room, after = key('room', request.room), request.after
  local lost = math.max(number_at(room, 'comings_lost'), number_at(room, 'said_lost'))
  if after > number_at(room, 'last') or after < lost then
    return { is = 'gone' }
  end
  local events = {}
  for _, kind in ipairs({ 'comings', 'said' }) do
    local start = '(' .. text(after) .. '-0'
    local entries = call('XRANGE', key(kind, request.room), start, '+', 'COUNT', settings.read_on_limit + 1)
    for _, event in ipairs(events_of(entries)) do
      events[#events + 1] = event
    end
  end
  table.sort(events, by_time)
  local more = #events > settings.read_on_limit
  for index = #events, settings.read_on_limit + 1, -1 do
    events[index] = nil
  end
  return { is = 'happened', events = events, more = more }
end

function requests.rooms()
  local rooms = call('SMEMBERS', key('rooms'))
  table.sort(rooms)
  return { is = 'openrooms', rooms = rooms }
end

function requests.sweep()
  local count = 0
  for _, node in ipairs(call('ZRANGEBYSCORE', key('nodes'), '-inf', '(' .. text(now))) do
    call('ZADD', key('nodes'), 0, node)
    local held = key('held', node)
    local fields = call('HRANDFIELD', held, settings.sweep_limit - count)
    table.sort(fields)
    for _, field in ipairs(fields) do
      count = count + 1
      if string.sub(field, 1, 1) == 'n' then
        forget_name(cmsgpack.unpack(call('HGET', key('names'), string.sub(field, 2))))
      else
        local name, member = string.match(field, '^m(.-)\n(.*)$')
        local join = cmsgpack.unpack(call('HGET', key('members', name), member))
        happen(name, { { 0, 'leave', member, join[6], '' } }, node, 0, 0)
      end
    end
    if call('EXISTS', held) == 1 then
      return { is = 'swept', count = count, more = true }
    end
    call('ZREM', key('nodes'), node)
    call('HDEL', key('applied'), node)
  end
  return { is = 'swept', count = count, more = false }
end

local function account_of(name)
  local account = call('HGET', key('accounts'), name)
  return account and cmsgpack.unpack(account)
end

local function found(account)
  return account and { is = 'found', account = account } or { is = 'noaccount' }
end

function requests.findaccount()
  return found(account_of(request.key))
end

function requests.addaccount()
  local account = request.account
  local there = account_of(account.key)
  if there then
    return there.hash == account.hash and { is = 'done' } or found(there)
  end
  local look = key('account_look', account.look)
  local users = alike_but(look, request.beside)
  if users then
    return { is = 'alike', users = users }
  end
  call('HSET', key('accounts'), account.key, cmsgpack.pack(account))
  call('ZADD', key('account_keys'), 0, account.key)
  call('HSET', look, account.key, account.name)
  return { is = 'done' }
end

function requests.sethash()
  local account = account_of(request.key)
  if not account then
    return { is = 'noaccount' }
  end
  if request.instead_of ~= '' and account.hash ~= request.instead_of and account.hash ~= request.hash then
    return { is = 'changed' }
  end
  account.hash = request.hash
  call('HSET', key('accounts'), account.key, cmsgpack.pack(account))
  return { is = 'done' }
end

function requests.removeaccount()
  local account = account_of(request.key)
  if account then
    call('HDEL', key('accounts'), account.key)
    call('ZREM', key('account_keys'), account.key)
    call('HDEL', key('account_look', account.look), account.key)
  end
  return found(account)
end

function requests.listaccounts()
  local limit = settings.accounts_limit
  local keys = call('ZRANGEBYLEX', key('account_keys'), '(' .. request.after, '+', 'LIMIT', 0, limit + 1)
  local accounts = {}
  for index = 1, math.min(#keys, limit) do
    accounts[index] = account_of(keys[index])
  end
  return { is = 'accountlist', accounts = accounts, more = #keys > limit }
end

return cmsgpack.pack(requests[request.is]())
