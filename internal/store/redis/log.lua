-- One subject's log of one unit, as every script here reads and writes it.
--
-- The value under a log's key is a string:
--
--   header   '>BBBI7I4I4I7I7I7I7I7I7'  version, room for windows, windows tracked, version of the subject's override,
--                                    entries, room for entries, time of the newest entry, total of all entries, total
--                                    before the first entry, retention, when a policy last asked for that retention,
--                                    when the key expires
--   windows  '>I7BI4I7I7' each       period, kind, cursor: index of the oldest live entry (= entries if none),
--                                    when that entry leaves (NEVER if none), total before it
--   entries  '>I7I7' each            time, total up to and including this entry
--
-- Times and periods are microseconds. An entry at t is live in a window of period T while now < t + T. A window's use
-- is the total less the window's base: one subtraction, however many entries. Everything is computed in memory first and
-- written at the end of the script, so a script that fails has changed nothing.

local VERSION = 1
local HEAD = 'BBBI7I4I4I7I7I7I7I7I7'
local HEAD_SIZE = 60
local WINDOW = 'I7BI4I7I7'
local WINDOW_SIZE = 26
local WINDOW_FIELDS = 5
local ENTRY = '>I7I7'
local ENTRY_SIZE = 14
local FEW_WINDOWS = 4 -- room for windows in a new log; the first read fetches as many
local MOST_WINDOWS = 16
local NEVER = 9007199254740991 -- 2^53-1, the largest integer that a double holds with all below it
local EXACT, COARSE, SOFT = 0, 1, 2 -- kinds of window: see sub_window
local EXACT_HITS, SUB_WINDOWS = 4096, 512
local GRACE = 60000000 -- a key outlives its last hit by this much at least

local floor, max, min = math.floor, math.max, math.min
local spack, sunpack, ssub, srep = struct.pack, struct.unpack, string.sub, string.rep
local call, pcall_redis = redis.call, redis.pcall

local formats = {} -- window count -> format of that many windows
local function windows_format(k)
  local f = formats[k]
  if not f then
    f = srep(WINDOW, k)
    formats[k] = f
  end
  return f
end

local function corrupt(key, what)
  error({ corrupt = 'key ' .. key .. ': ' .. what })
end

-- Reads an answer of redis.pcall; a wrong type under our key fails this decision alone.
local function must(reply, key)
  if type(reply) == 'table' and reply.err then
    corrupt(key, reply.err)
  end
  return reply
end

-- The subject's override: its version and value. It stands beside the logs under the same hash tag.
local function read_override(key)
  local raw = must(pcall_redis('GET', ssub(key, 1, -2) .. 'o'), key)
  if not raw then
    return 0, ''
  end
  if #raw < 7 then
    corrupt(key, 'the override is too short')
  end
  return sunpack('>I7', raw), ssub(raw, 8)
end

-- Loads a log; one that is not there is empty. `now` becomes the log's own: it never runs backwards.
local function load_log(key, clock)
  local raw = must(pcall_redis('GETRANGE', key, 0, HEAD_SIZE + FEW_WINDOWS * WINDOW_SIZE - 1), key)
  if raw == '' then
    return {
      key = key, override = read_override(key), slots = 0, n = 0, stored = 0, room = 0, last = 0, total = 0, origin = 0,
      retain = 0, asked = 0, expires = 0, k = 0, w = {}, now = clock,
    }
  end
  if #raw < HEAD_SIZE then
    corrupt(key, 'too short for a header')
  end
  local version, slots, k, override, n, room, last, total, origin, retain, asked, expires = sunpack('>' .. HEAD, raw)
  if version ~= VERSION or slots > MOST_WINDOWS or k > slots or n > room then
    corrupt(key, 'not a header of version ' .. VERSION)
  end
  if k > FEW_WINDOWS then
    raw = call('GETRANGE', key, 0, HEAD_SIZE + k * WINDOW_SIZE - 1)
  end
  if #raw < HEAD_SIZE + k * WINDOW_SIZE then
    corrupt(key, 'too short for its windows')
  end
  return {
    key = key, override = override, slots = slots, n = n, stored = n, room = room, last = last, total = total, origin = origin,
    retain = retain, asked = asked, expires = expires, k = k,
    w = k > 0 and { sunpack('>' .. windows_format(k), raw, HEAD_SIZE + 1) } or {},
    now = max(clock, last),
  }
end

-- The packed entries [from, to) as they are stored. What this script has added is not among them: it is the entry
-- (log.last, log.total) at index log.stored.
local function read_entries(log, from, to)
  local offset = HEAD_SIZE + log.slots * WINDOW_SIZE
  local raw = call('GETRANGE', log.key, offset + from * ENTRY_SIZE, offset + to * ENTRY_SIZE - 1)
  if #raw ~= (to - from) * ENTRY_SIZE then
    corrupt(log.key, 'entries are missing')
  end
  return raw
end

-- Binary search over the stored entries [low, high): the first whose time (field 1) or total (field 2) is >= bound.
local function search(log, low, high, field, bound)
  while low < high do
    local mid = floor((low + high) / 2)
    local at, sum = sunpack(ENTRY, read_entries(log, mid, mid + 1))
    if (field == 1 and at or sum) >= bound then
      high = mid
    else
      low = mid + 1
    end
  end
  return low
end

local NEAR = 8 -- a cursor mostly moves by one or two entries: so many are read at once before searching

-- Moves the cursor of the window at w[p..p+4] past entries that have left it or count for nothing.
local function advance(log, p)
  local w, n, stored = log.w, log.n, log.stored
  local border = log.now - w[p] -- live: later than this
  if log.last <= border or log.total == w[p + 4] then
    w[p + 2], w[p + 3], w[p + 4] = n, NEVER, log.total
    return
  end
  local i, base = w[p + 2], w[p + 4]
  local looked = 0
  while i < stored do
    if looked == 1 then -- far: find the first live one, then read on from the one before it, for its total
      i = max(search(log, i, stored, 1, border + 1) - 1, i)
    end
    looked = looked + 1
    local to = min(i + NEAR, stored)
    local raw = read_entries(log, i, to)
    local position = 1
    while i < to do
      local at, sum
      at, sum, position = sunpack(ENTRY, raw, position)
      if at > border and sum > base then
        w[p + 2], w[p + 3], w[p + 4] = i, at + w[p], base
        return
      end
      base, i = sum, i + 1
    end
  end
  w[p + 2], w[p + 3], w[p + 4] = stored, base < log.total and log.last + w[p] or NEVER, base
  if base == log.total then
    w[p + 2] = n
  end
end

-- Where the window of a period that the log does not track begins: cursor, when its entry leaves, total before it.
local function locate(log, period)
  local first = search(log, 0, log.stored, 1, log.now - period + 1)
  if first == log.n then
    return first, NEVER, log.total
  end
  local base = log.origin
  if first > 0 then
    local _, sum = sunpack(ENTRY, read_entries(log, first - 1, first))
    base = sum
  end
  return first, 0, base -- left "at 0": due for advance, which finds the entry's time and skips those of amount 0
end

-- Makes the log track the windows of the spec, in their order, before as many of the others as there is room for.
local function adopt(log, spec)
  local old, fresh, wanted = log.w, {}, {}
  for s = 1, spec.k * 4, 4 do
    local period = spec[s]
    local cursor, leaves, base
    for p = 1, log.k * WINDOW_FIELDS, WINDOW_FIELDS do
      if old[p] == period then
        cursor, leaves, base = old[p + 2], old[p + 3], old[p + 4]
      end
    end
    if not cursor then
      cursor, leaves, base = locate(log, period)
    end
    wanted[period] = true
    local p = #fresh
    fresh[p + 1], fresh[p + 2], fresh[p + 3], fresh[p + 4], fresh[p + 5] = period, spec[s + 2], cursor, leaves, base
  end
  for p = 1, log.k * WINDOW_FIELDS, WINDOW_FIELDS do
    if not wanted[old[p]] and #fresh < 2 * FEW_WINDOWS * WINDOW_FIELDS then
      for f = 0, WINDOW_FIELDS - 1 do
        fresh[#fresh + 1] = old[p + f]
      end
    end
  end
  log.w, log.k = fresh, #fresh / WINDOW_FIELDS
end

-- Sees to it that the log's first windows are those of the spec, with their cursors as of now.
local function track(log, spec)
  local w, k, same = log.w, spec.k, log.k >= spec.k
  local p, s = 1, 1
  while same and s <= k * 4 do
    same = w[p] == spec[s]
    p, s = p + WINDOW_FIELDS, s + 4
  end
  if not same then
    adopt(log, spec)
    w = log.w
  end
  local now = log.now
  p, s = 1, 3
  for _ = 1, k do
    w[p + 1] = spec[s]
    if now >= w[p + 3] then
      advance(log, p)
    end
    p, s = p + WINDOW_FIELDS, s + 4
  end
end

-- How long until the window at w[p..p+4] has lost `excess` more than now, by the script's clock.
local function wait_for(log, p, excess, clock)
  local w = log.w
  local base = w[p + 4]
  if log.total - base < excess then
    return NEVER
  end
  local i = w[p + 2]
  local leaves = w[p + 3]
  if excess > 1 then
    i = search(log, i, log.stored, 2, base + excess)
    local at = log.last
    if i < log.stored then
      at = sunpack(ENTRY, read_entries(log, i, i + 1))
    end
    leaves = at + w[p]
  end
  return leaves - clock
end

-- Makes room for one more entry where there is none: fetches what is stored, for write_log to lay out anew. What can fail
-- of a write fails here.
local function prepare(log)
  if not log.body and (log.n >= log.room or log.k > log.slots or log.total > NEVER / 4) then
    log.body = log.stored > 0 and read_entries(log, 0, log.stored) or ''
  end
end

-- Takes a hit. Nothing in here can fail.
local function append(log, spec, amount)
  local w, k, now, n = log.w, log.k, log.now, log.n
  local merge = n > 0 and log.last == now
  if n > 0 and not merge then
    local quantum = NEVER -- hits of one sub-window of every window share an entry
    for p = 1, k * WINDOW_FIELDS, WINDOW_FIELDS do
      quantum = w[p + 1] == COARSE and min(quantum, floor(w[p] / SUB_WINDOWS)) or 0
      if quantum == 0 then
        break
      end
    end
    merge = quantum > 0 and floor(now / quantum) == floor(log.last / quantum)
  end
  if not merge then
    n = n + 1
    log.n = n
  end
  log.stored = n - 1
  log.last, log.total, log.dirty = now, log.total + amount, true
  for p = 1, k * WINDOW_FIELDS, WINDOW_FIELDS do
    if w[p + 2] >= n - 1 then -- the window was empty, or begins at this entry
      w[p + 2], w[p + 3] = n - 1, now + w[p]
    end
  end
  if spec.longest >= log.retain then
    log.retain, log.asked = spec.longest, now
  elseif now - log.asked > log.retain then
    log.retain = spec.longest
  end
end

-- Merges entries of the packed list into sub-windows, each dated at its latest hit, where every window that such an entry
-- can still leave allows it, and counts the totals from `origin` on. Returns the new list and its length.
local function thin(log, body, count, origin)
  local w, stride = log.w, log.k * WINDOW_FIELDS
  local out, kept, position = {}, 0, 1
  local previous
  for _ = 1, count do
    local at, sum
    at, sum, position = sunpack(ENTRY, body, position)
    local age, quantum = log.now - at, NEVER
    for p = 1, stride, WINDOW_FIELDS do
      if w[p] > age then
        quantum = w[p + 1] == EXACT and 0 or min(quantum, floor(w[p] / SUB_WINDOWS))
      end
      if quantum == 0 then
        break
      end
    end
    if count <= EXACT_HITS + SUB_WINDOWS then
      quantum = 0
    end
    if quantum == 0 or not previous or floor(at / quantum) ~= floor(previous / quantum) then
      kept = kept + 1
    end
    out[kept] = spack(ENTRY, at, sum - origin)
    previous = at
  end
  return table.concat(out), kept
end

-- The first of the packed entries that is live in a period, and the total before it.
local function first_live(body, count, now, period, origin)
  local low, high = 0, count
  while low < high do
    local mid = floor((low + high) / 2)
    if sunpack('>I7', body, mid * ENTRY_SIZE + 1) > now - period then
      high = mid
    else
      low = mid + 1
    end
  end
  if low == 0 then
    return 0, origin
  end
  local _, sum = sunpack(ENTRY, body, (low - 1) * ENTRY_SIZE + 1)
  return low, sum
end

local function pack_header(log)
  return spack('>' .. HEAD .. windows_format(log.k), VERSION, log.slots, log.k, log.override, log.n, log.room, log.last,
    log.total, log.origin, log.retain, log.asked, log.expires, unpack(log.w, 1, log.k * WINDOW_FIELDS))
end

-- Lays a log out anew, without the entries that have left every window, and with an eighth of room to grow.
local function rewrite(log)
  local w, stride = log.w, log.k * WINDOW_FIELDS
  local body = ssub(log.body, 1, log.stored * ENTRY_SIZE)
  local dropped, origin = first_live(body, log.stored, log.now, log.retain, log.origin)
  body = ssub(body, dropped * ENTRY_SIZE + 1)
  local count = log.stored - dropped
  if count > EXACT_HITS + SUB_WINDOWS or log.total > NEVER / 4 then
    body, count = thin(log, body, count, origin)
    log.total = log.total - origin
    origin = 0
    for p = 1, stride, WINDOW_FIELDS do
      w[p + 2], w[p + 4] = first_live(body, count, log.now, w[p], 0)
      w[p + 3] = 0 -- due for advance, which finds when the entry leaves
    end
  else
    for p = 1, stride, WINDOW_FIELDS do
      if w[p + 2] < dropped then -- a window longer than any that is asked for
        w[p + 2], w[p + 3], w[p + 4] = 0, 0, origin
      else
        w[p + 2] = w[p + 2] - dropped
      end
    end
  end
  log.origin, log.n = origin, count + 1
  log.room = log.n + max(8, floor(log.n / 8))
  log.slots = max(log.k, FEW_WINDOWS)
  local lifetime = max(log.retain * 1.25, log.retain + GRACE)
  log.expires = log.now + floor(lifetime)
  call('SET', log.key, pack_header(log) .. srep('\0', (log.slots - log.k) * WINDOW_SIZE) .. body
    .. spack(ENTRY, log.last, log.total) .. srep('\0', (log.room - log.n) * ENTRY_SIZE), 'PX', math.ceil(lifetime / 1000))
end

-- Writes what append has changed: the newest entry and the header.
local function write_log(log)
  if log.body then
    rewrite(log)
    return
  end
  local due = log.expires < log.now + log.retain
  local lifetime
  if due then
    lifetime = max(log.retain * 1.25, log.retain + GRACE)
    log.expires = log.now + floor(lifetime)
  end
  call('SETRANGE', log.key, HEAD_SIZE + log.slots * WINDOW_SIZE + (log.n - 1) * ENTRY_SIZE,
    spack(ENTRY, log.last, log.total))
  call('SETRANGE', log.key, 0, pack_header(log))
  if due then
    call('PEXPIRE', log.key, math.ceil(lifetime / 1000))
  end
end

-- The windows that a policy asks for, '>B' count and '>I7I7BB' each: period, limit, kind, 1 if it is enforced.
local function parse_spec(raw, position)
  local k = sunpack('>B', raw, position)
  local spec = { sunpack('>' .. srep('I7I7BB', k), raw, position + 1) }
  spec.k, spec.longest = k, 0
  for s = 1, k * 4, 4 do
    spec.longest = max(spec.longest, spec[s])
  end
  return spec, position + 1 + k * 16
end

local function parse_specs(raw)
  local specs, position = {}, 1
  while position <= #raw do
    specs[#specs + 1], position = parse_spec(raw, position)
  end
  return specs
end

-- One check of a request: '>I2BI7I7' key, spec, amount, version of the override that it was made from.
local CHECK = 'I2BI7I7'
local CHECK_FIELDS = 4
local check_formats = {}
local function checks_format(count)
  local f = check_formats[count]
  if not f then
    f = '>' .. srep(CHECK, count)
    check_formats[count] = f
  end
  return f
end

-- The answer about one check: '>I7I7' total, the log's now, and '>I7I7I7' per window: used, reset, wait.
local STATE_FIELDS = 3
local state_formats = {}
local function pack_states(log, spec, values, clock)
  local w, v = log.w, 3
  values[1], values[2] = log.total, log.now
  for p = 1, spec.k * WINDOW_FIELDS, WINDOW_FIELDS do
    local leaves = w[p + 3]
    values[v] = log.total - w[p + 4]
    values[v + 1] = leaves ~= NEVER and leaves - clock or 0
    v = v + STATE_FIELDS
  end
  local f = state_formats[spec.k]
  if not f then
    f = '>I7I7' .. srep('I7I7I7', spec.k)
    state_formats[spec.k] = f
  end
  return spack(f, unpack(values, 1, v - 1))
end

-- Verdicts, the first byte of an answer.
local DENIED, ADMITTED, STALE, FAILED = 0, 1, 2, 3

-- What to answer when decide has failed.
local function failure(problem)
  if type(problem) == 'table' then
    problem = problem.corrupt or problem.err or 'unknown'
  end
  return spack('>B', FAILED) .. problem
end

-- '>B' STALE, '>B' count, and each '>BI7I4' index of the check, version, length of the value, and the value.
local function stale_answer(stale)
  return spack('>BB', STALE, #stale) .. table.concat(stale)
end

-- If the check was made from another override than the stored one, says so.
local function stale_check(log, index, override)
  if log.override == override then
    return nil
  end
  local version, value = read_override(log.key)
  return spack('>BI7I4', index - 1, version, #value) .. value
end
