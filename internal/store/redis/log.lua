-- One subject's log of one unit, as every script here reads and writes it.
--
-- The value under a log's key is a string:
--
--   cold     '>BBBI7I4I7I7I7I7'  version, room for windows, windows tracked, version of the subject's override, room for
--                                entries, total before the first entry, retention, when a policy last asked for that
--                                retention, when the key expires
--   shapes   '>I7B' each         period and kind of the windows tracked; then unused room
--   windows  unused room, then '>I4I7I7I4c56' each: cursor: index of the oldest live entry (= entries if none), when that
--                                entry leaves (NEVER if none), total before it; then a few entries from the cursor on, so
--                                that the next moves need no read: index of the first (NONE if none) and the entries
--   newest   '>I7I6I7'           total of all entries, their number, time of the newest
--   entries  '>I7I7' each        time, total up to and including this entry
--
-- Times and periods are microseconds. An entry at t is live in a window of period T while now < t + T. A window's use
-- is the total less the window's base: one subtraction, however many entries. Everything is computed in memory first and
-- written at the end of the script, so a script that fails has changed nothing. An ordinary hit writes windows and newest,
-- which stand side by side, and one entry.
--
-- Lua finds a string in its table by a hash of every few bytes, the last one always among them. So what differs from log to
-- log and from hit to hit, the low bytes of the newest entry, stands at the end of what is read and written.
--
-- Names in capitals are constants: their values are put in their place before the script is sent (see script.go), since each
-- call makes all functions anew, and pays for every local that one of them refers to.

local VERSION = 1
local COLD, COLD_SIZE = '>BBBI7I4I7I7I7I7', 42
local RETENTION_AT = '21' -- where retention, when it was asked for, and when the key expires stand
local SHAPE, SHAPE_SIZE = 'I7B', 8
local NEWEST, NEWEST_SIZE = 'I7I6I7', 20
local WINDOW, WINDOW_SIZE, WINDOW_FIELDS = 'I4I7I7I4c56', 78, 5
local ENTRY, ENTRY_SIZE = '>I7I7', 14
local AHEAD = 4 -- entries kept at a cursor
local FEW_WINDOWS = 4 -- room for windows in a new log; the first read fetches as many
local MOST_WINDOWS = 16
local FEW_WINDOWS_HEAD, FEW_WINDOWS_END = 406, '405' -- size of everything before the entries then, and its last byte
local NEVER = 9007199254740991 -- 2^53-1, the largest integer that a double holds with all below it
local NONE = 4294967295
local EXACT, COARSE, SOFT = 0, 1, 2 -- kinds of window: see sub_window
local EXACT_HITS, SUB_WINDOWS = 4096, 512
local GRACE = 60000000 -- a key outlives its last hit by this much at least

-- A log in memory is an array: these fields, then those of each window from FIRST on.
local KEY, NOW, STORED, DIRTY, COLD_DIRTY, BODY, SHAPES = 1, 2, 3, 4, 5, 6, 7
local SLOTS, K, OVERRIDE, ROOM, ORIGIN, RETAIN, ASKED, EXPIRES = 8, 9, 10, 11, 12, 13, 14, 15
local WANTED, TOTAL, N, LAST = 16, 17, 18, 19
local FIRST = 20
-- NOW      the log's clock, which never runs backwards
-- STORED   entries that can be read from Redis; one that this script has added is (LAST, TOTAL), at this index
-- DIRTY    changed by this script; COLD_DIRTY: in cold or shapes, too
-- BODY     all stored entries, once they are to be laid out anew; else false
-- SHAPES   the windows' shapes as they are stored
-- WANTED   how many of the windows, the first ones, the last decision asked for


local window_formats = {} -- window count -> format of so many
local function windows_format(k)
  local f = window_formats[k]
  if not f then
    f = '>' .. srep(WINDOW, k)
    window_formats[k] = f
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

-- The size of everything before the entries.
local function head_size(slots)
  return COLD_SIZE + slots * (SHAPE_SIZE + WINDOW_SIZE) + NEWEST_SIZE
end

-- Loads a log; one that is not there is empty.
local function load_log(key, clock)
  local raw = pcall_redis('GETRANGE', key, '0', FEW_WINDOWS_END)
  if raw == '' then
    return { key, clock, 0, false, true, false, '', 0, 0, read_override(key), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end
  local size, head = #must(raw, key), FEW_WINDOWS_HEAD
  local version, slots, k = sbyte(raw, 1, 3)
  if size < COLD_SIZE or version ~= VERSION or slots > MOST_WINDOWS or k > slots then
    corrupt(key, 'not a log of version ' .. VERSION)
  end
  if slots ~= FEW_WINDOWS then
    head = head_size(slots)
    raw = call('GETRANGE', key, 0, head - 1)
    size = #raw
  end
  if size < head then
    corrupt(key, 'too short for its windows')
  end
  local override, room, origin, retain, asked, expires = sunpack('>I7I4I7I7I7I7', raw, 4)
  local total, n, last = sunpack('>I7I6I7', raw, head - NEWEST_SIZE + 1)
  if n > room then
    corrupt(key, 'more entries than room')
  end
  return {
    key, clock > last and clock or last, n, false, false, false, ssub(raw, COLD_SIZE + 1, COLD_SIZE + k * SHAPE_SIZE),
    slots, k, override, room, origin, retain, asked, expires, k, total, n, last,
    sunpack(windows_format(k), raw, head - NEWEST_SIZE - k * WINDOW_SIZE + 1),
  }
end

-- The packed entries [from, to) as they are stored.
local function read_entries(log, from, to)
  local offset = head_size(log[SLOTS])
  local raw = call('GETRANGE', log[KEY], sformat('%d', offset + from * ENTRY_SIZE), sformat('%d', offset + to * ENTRY_SIZE - 1))
  if #raw ~= (to - from) * ENTRY_SIZE then
    corrupt(log[KEY], 'entries are missing')
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

-- Moves the cursor of the window at log[p...] past entries that have left it or count for nothing.
local function advance(log, p, period)
  local stored, total, base = log[STORED], log[TOTAL], log[p + 2]
  local border = log[NOW] - period -- live: later than this
  if log[LAST] <= border or total == base then
    log[p], log[p + 1], log[p + 2], log[p + 3] = log[N], NEVER, total, NONE
    return
  end
  local i, from, ahead = log[p], log[p + 3], log[p + 4]
  local reads, known = 0, from + AHEAD
  while i < stored do
    if i < from or i >= known then
      if reads == 2 then -- far: find the first live one, then read on from the one before it, for its total
        i = max(search(log, i, stored, 1, border + 1) - 1, i)
      end
      from, known = i, min(i + AHEAD, stored)
      ahead = read_entries(log, from, known)
      reads = reads + 1
    end
    local at, sum = sunpack(ENTRY, ahead, (i - from) * ENTRY_SIZE + 1)
    if at > border and sum > base then
      log[p], log[p + 1], log[p + 2] = i, at + period, base
      -- The newest entry may still be merged with the next hit, so it is not kept ahead.
      if known == from + AHEAD and known < log[N] then
        log[p + 3], log[p + 4] = from, ahead
      else
        log[p + 3] = NONE
      end
      return
    end
    base, i = sum, i + 1
  end
  log[p + 3] = NONE
  if base < total then
    log[p], log[p + 1], log[p + 2] = stored, log[LAST] + period, base
  else
    log[p], log[p + 1], log[p + 2] = log[N], NEVER, total
  end
end

-- A window of a period that the log does not track, as the fields of one that is due for advance.
local function locate(log, period)
  local first = search(log, 0, log[STORED], 1, log[NOW] - period + 1)
  local base, nothing = log[ORIGIN], srep('\0', AHEAD * ENTRY_SIZE)
  if first == log[N] then
    return { first, NEVER, log[TOTAL], NONE, nothing }
  end
  if first > 0 then
    local _, sum = sunpack(ENTRY, read_entries(log, first - 1, first))
    base = sum
  end
  return { first, 0, base, NONE, nothing }
end

-- Period and kind of the i-th window.
local function shape(log, i)
  return sunpack('>' .. SHAPE, log[SHAPES], (i - 1) * SHAPE_SIZE + 1)
end

-- Makes the log track the windows of the spec, in their order, before as many of the others as there is room for.
local function adopt(log, spec)
  local shapes, fresh, known, periods = { spec.shapes }, {}, {}, {}
  for i = 1, log[K] do
    local p = FIRST + (i - 1) * WINDOW_FIELDS
    periods[i] = shape(log, i)
    known[periods[i]] = { unpack(log, p, p + WINDOW_FIELDS - 1) }
  end
  for i = 1, spec.k do
    local period = spec[i * 4 - 3]
    fresh[i] = known[period] or locate(log, period)
    known[period] = nil
  end
  for i = 1, log[K] do
    if known[periods[i]] and #fresh < 2 * FEW_WINDOWS then
      fresh[#fresh + 1] = known[periods[i]]
      shapes[#shapes + 1] = ssub(log[SHAPES], (i - 1) * SHAPE_SIZE + 1, i * SHAPE_SIZE)
    end
  end
  log[SHAPES], log[K], log[COLD_DIRTY] = table.concat(shapes), #fresh, true
  for i = 1, #fresh do
    for f = 1, WINDOW_FIELDS do
      log[FIRST - 1 + (i - 1) * WINDOW_FIELDS + f] = fresh[i][f]
    end
  end
end

-- How long until the window at log[p...] has lost `excess` more than now, by the script's clock.
local function wait_for(log, p, period, excess, clock)
  local base = log[p + 2]
  if log[TOTAL] - base < excess then
    return NEVER
  end
  local leaves = log[p + 1]
  if excess > 1 then
    local i = search(log, log[p], log[STORED], 2, base + excess)
    local at = log[LAST]
    if i < log[STORED] then
      at = sunpack(ENTRY, read_entries(log, i, i + 1))
    end
    leaves = at + period
  end
  return leaves - clock
end

-- Makes room for one more entry where there is none: fetches what is stored, for write_log to lay out anew. What can fail
-- of a write fails here.
local function prepare(log)
  if not log[BODY] and (log[N] >= log[ROOM] or log[K] > log[SLOTS] or log[TOTAL] > NEVER / 4) then
    log[BODY] = log[STORED] > 0 and read_entries(log, 0, log[STORED]) or ''
  end
end

-- A window is EXACT: every hit by itself; COARSE: too large for that, hits of one sub-window are one entry from the start;
-- or SOFT: kept by hit until the log is full of live ones. Returns its sub-window, 0 for none.
local function sub_window(period, kind)
  return kind == EXACT and 0 or floor(period / SUB_WINDOWS)
end

-- The sub-window within which hits share an entry from the start: the shortest of all windows, if all are COARSE.
local function quantum_of(log, spec)
  local quantum = spec.quantum
  for i = spec.k + 1, log[K] do
    local period, kind = shape(log, i)
    quantum = kind == COARSE and min(quantum, sub_window(period, kind)) or 0
  end
  return quantum
end

-- Takes a hit, and has what look put at values[at+1...] say so. Nothing in here can fail.
local function append(log, spec, amount, values, at, clock)
  local now, n, k = log[NOW], log[N], log[K]
  local merge = n > 0 and log[LAST] == now
  if n > 0 and not merge and spec.quantum > 0 then
    local quantum = quantum_of(log, spec)
    merge = quantum > 0 and floor(now / quantum) == floor(log[LAST] / quantum)
  end
  if not merge then
    n = n + 1
    log[N] = n
  end
  local total, newest, p = log[TOTAL] + amount, n - 1, FIRST
  log[STORED], log[LAST], log[TOTAL], values[at + 2] = newest, now, total, total
  at = at + 3
  for s = 1, spec.last, 4 do
    values[at] = values[at] + amount
    if log[p] >= newest then -- the window was empty, or begins at this entry
      local leaves = now + spec[s]
      log[p], log[p + 1], values[at + 1] = newest, leaves, leaves - clock
    end
    p, at = p + WINDOW_FIELDS, at + 2
  end
  for i = spec.k + 1, k do
    if log[p] >= newest then
      log[p], log[p + 1] = newest, now + shape(log, i)
    end
    p = p + WINDOW_FIELDS
  end
  local retain = log[RETAIN]
  if spec.longest < retain and now - log[ASKED] > retain * 1.25 then
    log[RETAIN], log[ASKED], log[COLD_DIRTY] = spec.longest, now, true
  end
end

-- Notes that a policy still asks for so long a window, whether or not it takes a hit. Reports whether that is to be written;
-- a log that is not there is not made for it.
local function renew(log, spec)
  local longest, retain = spec.longest, log[RETAIN]
  if longest < retain or longest == retain and log[NOW] - log[ASKED] <= retain / 8 then
    return false
  end
  log[RETAIN], log[ASKED], log[COLD_DIRTY] = longest, log[NOW], true
  return log[SLOTS] > 0
end

-- Merges entries of the packed list into sub-windows, each dated at its latest hit, where every window that such an entry
-- can still leave allows it, and counts the totals from `origin` on. Returns the new list and its length.
local function thin(log, body, count, origin)
  local out, kept, position = {}, 0, 1
  local shapes, first = { sunpack('>' .. srep(SHAPE, log[K]), log[SHAPES]) }, nil
  for _ = 1, count do
    local at, sum
    at, sum, position = sunpack(ENTRY, body, position)
    local age, quantum = log[NOW] - at, NEVER
    for s = 1, log[K] * 2, 2 do
      if shapes[s] > age then
        -- Another policy's exact window may fill without end by what this one admits: it then errs towards denying.
        quantum = min(quantum, sub_window(shapes[s], s < log[WANTED] * 2 and shapes[s + 1] or SOFT))
      end
    end
    if count <= EXACT_HITS + SUB_WINDOWS then
      quantum = 0
    end
    -- By the first of those merged: what has left a short window does not come back into it.
    if quantum == 0 or not first or floor(at / quantum) ~= floor(first / quantum) then
      kept, first = kept + 1, at
    end
    out[kept] = spack(ENTRY, at, sum - origin)
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

-- The windows and the newest entry.
local function pack_hot(log)
  local w = FIRST + log[K] * WINDOW_FIELDS
  log[w], log[w + 1], log[w + 2] = log[TOTAL], log[N], log[LAST]
  return spack(windows_format(log[K]) .. NEWEST, unpack(log, FIRST, w + 2))
end

-- Everything before the entries. Windows for which there is no room are left out: they are found by search again. A decision
-- that took nothing may have brought them, in the same call as one that did.
local function pack_head(log)
  if log[K] > log[SLOTS] then
    log[K] = log[SLOTS]
    log[SHAPES] = ssub(log[SHAPES], 1, log[K] * SHAPE_SIZE)
  end
  local free = log[SLOTS] - log[K]
  return spack(COLD, VERSION, log[SLOTS], log[K], log[OVERRIDE], log[ROOM], log[ORIGIN], log[RETAIN], log[ASKED], log[EXPIRES])
    .. log[SHAPES] .. srep('\0', free * (SHAPE_SIZE + WINDOW_SIZE)) .. pack_hot(log)
end

-- How long the newest hit is still to be kept, by the script's clock: longer than the retention where the clock ran back.
local function remaining(log, clock)
  return log[NOW] - clock + log[RETAIN]
end

-- Sets the moment at which the key expires, by the script's clock, as Redis has it; returns the time until then in
-- milliseconds.
local function extend(log, clock)
  local needed = remaining(log, clock)
  local lifetime = max(needed * 1.25, needed + GRACE)
  log[EXPIRES] = clock + floor(lifetime)
  return sformat('%d', math.ceil(lifetime / 1000))
end

-- Lays a log out anew, without the entries that have left every window, and with a sixteenth of room to grow.
local function rewrite(log, clock)
  local body = ssub(log[BODY], 1, log[STORED] * ENTRY_SIZE)
  local dropped, origin = first_live(body, log[STORED], log[NOW], log[RETAIN], log[ORIGIN])
  body = ssub(body, dropped * ENTRY_SIZE + 1)
  local count, thinned = log[STORED] - dropped, false
  if count > EXACT_HITS + SUB_WINDOWS or log[TOTAL] > NEVER / 4 then
    body, count = thin(log, body, count, origin)
    log[TOTAL], origin, thinned = log[TOTAL] - origin, 0, true
  end
  for i = 1, log[K] do
    local p = FIRST + (i - 1) * WINDOW_FIELDS
    if thinned then
      log[p], log[p + 2] = first_live(body, count, log[NOW], shape(log, i), 0)
      log[p + 1] = 0 -- due for advance, which finds when the entry leaves
    elseif log[p] < dropped then -- a window longer than any that is asked for
      log[p], log[p + 1], log[p + 2] = 0, 0, origin
    else
      log[p] = log[p] - dropped
    end
    if not thinned and log[p + 3] ~= NONE and log[p + 3] >= dropped then
      log[p + 3] = log[p + 3] - dropped
    else
      log[p + 3] = NONE
    end
  end
  log[ORIGIN], log[N] = origin, count + 1
  log[ROOM] = log[N] + max(8, floor(log[N] / 16))
  log[SLOTS] = max(log[K], FEW_WINDOWS)
  local lifetime = extend(log, clock)
  call('SET', log[KEY], pack_head(log) .. body .. spack(ENTRY, log[LAST], log[TOTAL])
    .. srep('\0', (log[ROOM] - log[N]) * ENTRY_SIZE), 'PX', lifetime)
end

-- Writes what append has changed.
local function write_log(log, clock)
  if log[BODY] then
    rewrite(log, clock)
    return
  end
  local key, slots = log[KEY], log[SLOTS]
  local lifetime
  if log[EXPIRES] - clock < remaining(log, clock) then
    lifetime = extend(log, clock)
  end
  call('SETRANGE', key, sformat('%d', head_size(slots) + (log[N] - 1) * ENTRY_SIZE), spack(ENTRY, log[LAST], log[TOTAL]))
  if lifetime or log[COLD_DIRTY] then
    call('SETRANGE', key, '0', pack_head(log))
  else
    call('SETRANGE', key, sformat('%d', COLD_SIZE + slots * SHAPE_SIZE + (slots - log[K]) * WINDOW_SIZE), pack_hot(log))
  end
  if lifetime then
    call('PEXPIRE', key, lifetime)
  end
end

-- Writes what renew has changed of a log that nothing was added to. Where its windows stand is not written: the clock may have
-- been ahead, and what has left them may not have.
local function write_renewal(log, clock)
  local lifetime = extend(log, clock)
  call('SETRANGE', log[KEY], RETENTION_AT, spack('>I7I7I7', log[RETAIN], log[ASKED], log[EXPIRES]))
  call('PEXPIRE', log[KEY], lifetime)
end

-- Writes what the decisions of a script have changed.
local function write_logs(dirty, renewed, clock)
  for i = 1, #renewed do
    if not renewed[i][DIRTY] then
      write_renewal(renewed[i], clock)
    end
  end
  for i = 1, #dirty do
    write_log(dirty[i], clock)
  end
end

-- An answer: '>B' verdict, '>I7' clock; then per check '>I7I7' its log's now and total, and '>I7I7' per window: used, reset;
-- and where the verdict says so '>I7' per window of all checks: how long until the amount fits, 0 if it does, NEVER if it
-- cannot. It is put together in a list, whose first two places are the verdict's and the clock's.
local STATE, STATES = 'I7I7', 'I7I7'

-- Brings a log's windows up to now, puts what it says at values[at+1...] and the waits at waits[w+1...]. Says whether every
-- enforced limit has room for `need` more, and whether any limit, shadow or not, has not.
local function look(log, spec, need, values, at, waits, w, clock)
  local shapes, now, total, p = log[SHAPES], log[NOW], log[TOTAL], FIRST
  if shapes ~= spec.shapes and ssub(shapes, 1, #spec.shapes) ~= spec.shapes then
    adopt(log, spec)
  end
  local fits, short = true, false
  log[WANTED] = spec.k
  values[at + 1], values[at + 2] = now, total
  at = at + 3
  for s = 1, spec.last, 4 do
    if now >= log[p + 1] then
      advance(log, p, spec[s])
    end
    local leaves, used, limit = log[p + 1], total - log[p + 2], spec[s + 1]
    values[at], values[at + 1] = used, leaves ~= NEVER and leaves - clock or 0
    w = w + 1
    if used + need > limit then
      short = true
      waits[w] = need > limit and NEVER or wait_for(log, p, spec[s], used + need - limit, clock)
      fits = fits and spec[s + 3] == 0 and used + need <= NEVER / 2
    else
      waits[w] = 0
    end
    p, at = p + WINDOW_FIELDS, at + 2
  end
  if total + need > NEVER then -- more than can be counted exactly stands in windows that others ask for
    fits, short, waits[w] = false, true, max(waits[w], log[RETAIN])
  end
  return fits, short
end

-- The windows that policies ask for, one spec after another: '>B' count and '>I7I7BB' each: period, limit, kind, 1 if it is
-- enforced.
local function parse_specs(raw)
  local specs, position = {}, 1
  while position <= #raw do
    local k = sbyte(raw, position)
    local spec = { sunpack('>' .. srep('I7I7BB', k), raw, position + 1) }
    local shapes, longest, quantum = {}, 0, NEVER
    for i = 1, k do
      local period, kind = spec[i * 4 - 3], spec[i * 4 - 1]
      shapes[i] = spack('>' .. SHAPE, period, kind)
      longest = max(longest, period)
      quantum = kind == COARSE and min(quantum, sub_window(period, kind)) or 0
    end
    spec[k * 4 + 1] = nil -- the position that sunpack returns last
    spec.k, spec.last, spec.longest, spec.quantum = k, k * 4, longest, quantum
    spec.shapes, spec.states = table.concat(shapes), STATES .. srep(STATE, k)
    specs[#specs + 1] = spec
    position = position + 1 + k * 16
  end
  return specs
end

-- A request: '>BB' flags and number of checks, then the checks: key, spec, amount, version of the override that it was
-- made from.
local CHECK, CHECK_SIZE = '>I2BI7I7', 17

-- Verdicts, the first byte of an answer; WAITS is added to the first two.
local DENIED, ADMITTED, STALE, FAILED, WAITS, SKEWED = 0, 1, 2, 3, 4, 10

-- What to answer when a decision has failed.
local function failure(problem)
  if type(problem) == 'table' then
    if problem.skew then
      return spack('>B', SKEWED) .. problem.skew
    end
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
  if log[OVERRIDE] == override then
    return nil
  end
  local version, value = read_override(log[KEY])
  return spack('>BI7I4', index - 1, version, #value) .. value
end
