-- One subject's ledger of tokens or of money, as the scripts of holds read and write it.
--
-- A ledger keeps amounts that change after they were taken: what a hold holds is an entry at the moment of its admission, and the
-- settlement puts the actual amount there. So an entry has its own amount, and each window its own sum: a change is one write,
-- wherever the entry stands. The value under a ledger's key is a string:
--
--   head     '>BBBI7I4I4I7I7I7I7I7I7I7I7I7'  version, room for windows, windows tracked, version of the subject's override, room for
--                                entries, entries, amount ever taken, retention, when a policy last asked for that retention, when
--                                the key expires, time of the newest entry, amount held by open holds, until when entries were
--                                dropped, until when entries were merged, when the ledger was begun
--   windows  '>I7BI4I7I7I7' each period (of a calendar: its id), kind, cursor: index of the oldest live entry above 0, when it
--                                leaves (NEVER if there is none), sum of the live entries, and of a calendar the start of its
--                                window; then unused room
--   entries  '>I7I7' each        time, amount
--
-- Times and periods are microseconds. Entries are written at once, heads at the end of a script. What can fail of a decision fails
-- before its first write.

local clock = read_clock()

local LEDGER_VERSION = 2
local LONGEST_LEASE = 3600000000
local LEDGER, LEDGER_SIZE = '>BBBI7I4I4I7I7I7I7I7I7I7I7I7', 81
local SPAN, SPAN_SIZE, SPAN_FIELDS = 'I7BI4I7I7I7', 33, 6
local FEW_SPANS_END = '212' -- the last byte of a head with FEW_WINDOWS windows
local RETENTION_OFFSET = '25' -- of retention, when it was asked for, and when the key expires
local CALENDAR = 3 -- a kind of window beside EXACT, COARSE and SOFT
local CHUNK, MANY = 8, 64 -- entries read at once, near and far

local ledgers, touched, renewed = {}, {}, {} -- by key; those whose head is to be written; those asked for longer than before

local function touch(ledger)
  if not ledger.dirty then
    ledger.dirty = true
    touched[#touched + 1] = ledger
  end
end

local function ledger_head_size(slots)
  return LEDGER_SIZE + slots * SPAN_SIZE
end

-- A ledger in memory. All of its fields are here from the start: a table that grows is laid out anew each time.
local function new_ledger(key, slots, k, spans, override, room, n, total, retain, asked, expires, last, held, dropped, merged,
  born)
  return {
    key = key, now = max(clock, last), slots = slots, k = k, spans = spans, override = override, room = room, n = n, total = total,
    retain = retain, asked = asked, expires = expires, last = last, held = held, dropped = dropped, merged = merged,
    born = born, dirty = false, body = false, tail = 0, joins = false,
  }
end

-- Loads a ledger; one that is not there is empty, with no room.
local function load_ledger(key)
  local ledger = ledgers[key]
  if ledger then
    return ledger
  end
  local raw = must(pcall_redis('GETRANGE', key, '0', FEW_SPANS_END), key)
  if raw == '' then
    ledger = new_ledger(key, 0, 0, {}, read_override(key), 0, 0, 0, 0, 0, 0, 0, 0, clock - 1, 0, clock - 1)
    ledgers[key] = ledger
    return ledger
  end
  local version, slots, k = sbyte(raw, 1, 3)
  if #raw < LEDGER_SIZE or version ~= LEDGER_VERSION or slots > MOST_WINDOWS or k > slots then
    corrupt(key, 'not a ledger of version ' .. LEDGER_VERSION)
  end
  local size = ledger_head_size(slots)
  if slots > FEW_WINDOWS then
    raw = call('GETRANGE', key, 0, size - 1)
  end
  if #raw < size then
    corrupt(key, 'too short for its windows')
  end
  ledger = new_ledger(key, slots, k, { sunpack('>' .. srep(SPAN, k), raw, LEDGER_SIZE + 1) }, sunpack('>I7I4I4I7I7I7I7I7I7I7I7I7', raw, 4))
  if ledger.n > ledger.room then
    corrupt(key, 'more entries than room')
  end
  ledgers[key] = ledger
  return ledger
end

-- The packed entries [from, to) as they are stored.
local function ledger_entries(ledger, from, to)
  local offset = ledger_head_size(ledger.slots)
  local raw = call('GETRANGE', ledger.key, sformat('%d', offset + from * ENTRY_SIZE), sformat('%d', offset + to * ENTRY_SIZE - 1))
  if #raw ~= (to - from) * ENTRY_SIZE then
    corrupt(ledger.key, 'entries are missing')
  end
  return raw
end

-- The index of the first entry at or after a time, and the entry's time and amount if there is one. Most are near the end.
local function ledger_find(ledger, time)
  local low, high = 0, ledger.n
  if high == 0 or ledger.last < time then
    return high
  end
  local from = max(0, high - MANY)
  while true do
    local raw = ledger_entries(ledger, from, min(from + MANY, high))
    local count = #raw / ENTRY_SIZE
    if from == low or sunpack('>I7', raw) < time then
      local a, b = 0, count
      while a < b do
        local mid = floor((a + b) / 2)
        if sunpack('>I7', raw, mid * ENTRY_SIZE + 1) >= time then
          b = mid
        else
          a = mid + 1
        end
      end
      if a == count then
        return from + a -- only at the end of all, or of a part whose next is known to be later
      end
      return from + a, sunpack(ENTRY, raw, a * ENTRY_SIZE + 1)
    end
    -- Before this part: halve what is left until a part of it is read whole.
    high = from + 1
    while high - low > MANY do
      local mid = floor((low + high) / 2)
      if sunpack('>I7', ledger_entries(ledger, mid, mid + 1)) >= time then
        high = mid + 1
      else
        low = mid
      end
    end
    from = low
  end
end

-- Brings the window at spans[p...] up to now: its cursor to the first entry above 0 from `first` on, the time that is live.
local function ledger_advance(ledger, p, first, calendar_end)
  local spans, n = ledger.spans, ledger.n
  local i, sum = spans[p + 2], spans[p + 4]
  if ledger.last < first then
    spans[p + 2], spans[p + 3], spans[p + 4] = n, NEVER, 0
    return
  end
  local step = CHUNK
  while i < n do
    local to = min(i + step, n)
    local values = { sunpack('>' .. srep('I7I7', to - i), ledger_entries(ledger, i, to)) }
    for e = 1, (to - i) * 2, 2 do
      local at, amount = values[e], values[e + 1]
      if at >= first and amount > 0 then
        spans[p + 2], spans[p + 4] = i, sum
        spans[p + 3] = calendar_end or at + spans[p]
        return
      end
      sum, i = sum - amount, i + 1
    end
    step = MANY
  end
  spans[p + 2], spans[p + 3], spans[p + 4] = n, NEVER, 0
end

-- The sum of all entries from `index` on.
local function ledger_sum(ledger, index)
  local sum = 0
  while index < ledger.n do
    local to = min(index + MANY, ledger.n)
    local values = { sunpack('>' .. srep('I7I7', to - index), ledger_entries(ledger, index, to)) }
    for e = 2, (to - index) * 2, 2 do
      sum = sum + values[e]
    end
    index = to
  end
  return sum
end

local function asks_for(spec, period, kind)
  for s = 1, spec.last, 4 do
    if spec[s] == period and spec[s + 2] == kind then
      return true
    end
  end
  return false
end

-- The place in spans of the i-th window of the spec, which is tracked from now on.
local function ledger_span(ledger, i, spec, first)
  local period, kind = spec[i * 4 - 3], spec[i * 4 - 1]
  local spans, k = ledger.spans, ledger.k
  local p = (i - 1) * SPAN_FIELDS + 1
  if i <= k and spans[p] == period and spans[p + 1] == kind then
    return p
  end
  for j = 0, k - 1 do
    p = j * SPAN_FIELDS + 1
    if spans[p] == period and spans[p + 1] == kind then
      return p
    end
  end
  if k < MOST_WINDOWS then
    p = k * SPAN_FIELDS + 1
    ledger.k = k + 1
  else
    for j = k - 1, 0, -1 do
      p = j * SPAN_FIELDS + 1
      if not asks_for(spec, spans[p], spans[p + 1]) then
        break
      end
    end
  end
  local cursor = ledger_find(ledger, first)
  spans[p], spans[p + 1], spans[p + 2], spans[p + 3], spans[p + 4], spans[p + 5] =
    period, kind, cursor, 0, ledger_sum(ledger, cursor), first
  return p
end

-- How long until the window at spans[p...] has lost `excess`, by the script's clock.
local function ledger_wait(ledger, p, excess)
  local spans, n = ledger.spans, ledger.n
  local i, step = spans[p + 2], CHUNK
  while i < n do
    local to = min(i + step, n)
    local values = { sunpack('>' .. srep('I7I7', to - i), ledger_entries(ledger, i, to)) }
    for e = 1, (to - i) * 2, 2 do
      excess = excess - values[e + 1]
      if excess <= 0 then
        return values[e] + spans[p] - clock
      end
    end
    i, step = to, MANY
  end
  return NEVER
end

-- The calendar's window that `now` is in, of the three that the boundaries make. A daemon whose clock is further off cannot ask.
local function calendar_window(ledger, bounds)
  for b = 1, 3 do
    if ledger.now < bounds[b + 1] then
      if ledger.now >= bounds[b] then
        return bounds[b], bounds[b + 1]
      end
      break
    end
  end
  error({ skew = 'key ' .. ledger.key })
end

-- How the limits of a check stand before it. Fills check.states with used, reset and wait of each, and says whether every enforced
-- limit has room for `need` more.
local function look_ledger(ledger, check, need)
  local spec, spans, now = check.spec, ledger.spans, ledger.now
  local fits, states, resets = true, check.states, check.resets
  for i = 1, spec.k do
    local s = i * 4 - 3
    local limit = spec[s + 1]
    local first, finish = now - spec[s] + 1, nil
    if spec[s + 2] == CALENDAR then
      first, finish = calendar_window(ledger, check.calendars[i])
    end
    local p = ledger_span(ledger, i, spec, first)
    if now >= spans[p + 3] or finish and spans[p + 5] ~= first then
      ledger_advance(ledger, p, first, finish)
      spans[p + 5] = first
    end
    local leaves, used, wait = spans[p + 3], spans[p + 4], 0
    if used + need > limit then
      if need > limit then
        wait = NEVER
      elseif finish then
        wait = finish - clock
      else
        wait = ledger_wait(ledger, p, used + need - limit)
      end
      fits = fits and spec[s + 3] == 0 and used + need <= NEVER / 2
    end
    local o = (i - 1) * 3
    states[o + 1], states[o + 2], states[o + 3] = used, leaves ~= NEVER and leaves - clock or 0, wait
    resets[i] = (finish or now + spec[s]) - clock -- of what is taken now
  end
  local longest, retain = check.retain, ledger.retain
  if longest > retain or longest == retain and now - ledger.asked > retain / 8 then
    ledger.retain, ledger.asked = longest, now
    renewed[#renewed + 1] = ledger
  elseif longest < retain and now - ledger.asked > retain * 1.25 then
    ledger.retain, ledger.asked = longest, now
  end
  return fits
end

-- Whether what is taken at `at` joins the newest entry: taken at one moment, or once there are many, in one sub-window of the
-- shortest sliding window that is asked for, and on one side of each calendar's start.
local function joins_newest(ledger, at, spec)
  if ledger.n == 0 or ledger.last == at then
    return ledger.n > 0
  end
  if ledger.n < EXACT_HITS then
    return false
  end
  local quantum, spans = NEVER, ledger.spans
  for s = 1, spec.last, 4 do
    if spec[s + 2] ~= CALENDAR then
      quantum = min(quantum, floor(spec[s] / SUB_WINDOWS))
    end
  end
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    if spans[p + 1] == CALENDAR and ledger.last < spans[p + 5] then
      return false
    end
  end
  return quantum > 0 and floor(at / quantum) == floor(ledger.last / quantum)
end

-- Reads what a write at `at` needs: the newest entry's amount, if it is to be joined, and all entries where there is no more room.
local function prepare_ledger(ledger, at, spec)
  ledger.tail, ledger.body, ledger.joins = 0, false, joins_newest(ledger, at, spec)
  if ledger.joins then
    local _, amount = sunpack(ENTRY, ledger_entries(ledger, ledger.n - 1, ledger.n))
    ledger.tail = amount
  elseif ledger.n >= ledger.room then
    ledger.body = ledger_entries(ledger, 0, ledger.n)
  end
  if ledger.k > ledger.slots and not ledger.body then
    ledger.body = ledger_entries(ledger, 0, ledger.n)
  end
end

local function pack_ledger(ledger)
  if ledger.k > ledger.slots then -- found again by search
    ledger.k = ledger.slots
  end
  return spack(LEDGER, LEDGER_VERSION, ledger.slots, ledger.k, ledger.override, ledger.room, ledger.n, ledger.total, ledger.retain,
    ledger.asked, ledger.expires, ledger.last, ledger.held, ledger.dropped, ledger.merged, ledger.born)
    .. spack('>' .. srep(SPAN, ledger.k), unpack(ledger.spans, 1, ledger.k * SPAN_FIELDS))
end

local function ledger_lifetime(ledger)
  local needed = ledger.now - clock + ledger.retain
  local lifetime = max(needed * 1.25, needed + GRACE)
  ledger.expires = clock + floor(lifetime)
  return sformat('%d', math.ceil(lifetime / 1000))
end

-- Merges entries into sub-windows, each dated at its latest entry, as far as every sliding window that they are live in allows,
-- and never over the start of a calendar's window. Returns the new list.
local function thin_ledger(ledger, body)
  local spans, k, now = ledger.spans, ledger.k, ledger.now
  local out, kept, first, sum, count = {}, 0, nil, 0, #body / ENTRY_SIZE
  local periods, starts = {}, {}
  for p = 1, k * SPAN_FIELDS, SPAN_FIELDS do
    if spans[p + 1] == CALENDAR then
      starts[#starts + 1] = spans[p + 5]
    else
      periods[#periods + 1] = spans[p]
    end
  end
  for from = 0, count - 1, MANY do
    local values = { sunpack('>' .. srep('I7I7', min(MANY, count - from)), body, from * ENTRY_SIZE + 1) }
    for e = 1, min(MANY, count - from) * 2, 2 do
      local at, quantum, apart = values[e], NEVER, first == nil
      for i = 1, #periods do
        if periods[i] > now - at then
          quantum = min(quantum, floor(periods[i] / SUB_WINDOWS))
        end
      end
      for i = 1, #starts do
        apart = apart or first < starts[i] and starts[i] <= at
      end
      -- By the first of those merged: what has left a short window does not come back into it.
      if apart or quantum == 0 or floor(at / quantum) ~= floor(first / quantum) then
        kept, sum, first = kept + 1, 0, at
      else
        ledger.merged = max(ledger.merged, at)
      end
      sum = min(NEVER, sum + values[e + 1])
      out[kept * 2 - 1], out[kept * 2] = at, sum
    end
  end
  local packed = {}
  for from = 1, kept * 2, MANY * 2 do
    local to = min(from + MANY * 2 - 1, kept * 2)
    packed[#packed + 1] = spack('>' .. srep('I7', to - from + 1), unpack(out, from, to))
  end
  return table.concat(packed)
end

-- Finds all windows anew after entries were merged.
local function recount_ledger(ledger, body)
  local spans = ledger.spans
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    local calendar = spans[p + 1] == CALENDAR
    local first = calendar and spans[p + 5] or ledger.now - spans[p] + 1
    local cursor, sum, leaves = ledger.n, 0, NEVER
    for i = ledger.n - 1, 0, -1 do
      local at, amount = sunpack(ENTRY, body, i * ENTRY_SIZE + 1)
      if at < first then
        break
      end
      if amount > 0 then
        cursor, sum = i, sum + amount
        leaves = calendar and spans[p + 3] or at + spans[p]
      end
    end
    spans[p + 2], spans[p + 3], spans[p + 4] = cursor, leaves, sum
  end
end

-- Lays a ledger out anew, with room, without what has left every window. prepare_ledger has read its entries.
local function rewrite_ledger(ledger)
  local spans, body = ledger.spans, ledger.body
  ledger.body = false
  local border, drop = ledger.now - ledger.retain, 0
  local low, high = 0, ledger.n
  while low < high do
    local mid = floor((low + high) / 2)
    if sunpack('>I7', body, mid * ENTRY_SIZE + 1) > border then
      high = mid
    else
      low = mid + 1
    end
  end
  drop = low
  if drop > 0 then
    ledger.dropped = max(ledger.dropped, (sunpack('>I7', body, (drop - 1) * ENTRY_SIZE + 1)))
    body = ssub(body, drop * ENTRY_SIZE + 1)
    ledger.n = ledger.n - drop
    local kept = 0
    for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
      if spans[p + 2] >= drop then -- else it is longer than any that is asked for: found again by search
        spans[p + 2] = spans[p + 2] - drop
        for f = 0, SPAN_FIELDS - 1 do
          spans[kept * SPAN_FIELDS + 1 + f] = spans[p + f]
        end
        kept = kept + 1
      end
    end
    ledger.k = kept
  end
  if ledger.n > EXACT_HITS + 2 * SUB_WINDOWS then
    body = thin_ledger(ledger, body)
    ledger.n = #body / ENTRY_SIZE
    recount_ledger(ledger, body)
  end
  ledger.room = ledger.n + max(8, floor(ledger.n / 8))
  ledger.slots = ledger.k > FEW_WINDOWS and MOST_WINDOWS or FEW_WINDOWS
  local lifetime = ledger_lifetime(ledger)
  local head = pack_ledger(ledger)
  call('SET', ledger.key, head .. srep('\0', ledger_head_size(ledger.slots) - #head) .. body
    .. srep('\0', (ledger.room - ledger.n) * ENTRY_SIZE), 'PX', lifetime)
end

local function write_entry(ledger, index, at, amount)
  call('SETRANGE', ledger.key, sformat('%d', ledger_head_size(ledger.slots) + index * ENTRY_SIZE), spack(ENTRY, at, amount))
end

-- Tells whether an entry at a time is live in the window at spans[p...].
local function is_live(ledger, p, at)
  local spans = ledger.spans
  if spans[p + 1] == CALENDAR then
    return at >= spans[p + 5]
  end
  return at + spans[p] > ledger.now
end

-- Counts a change of an entry, which was `before`, in the window at spans[p...]. What stands from the cursor on is in the sum, be it
-- live or about to leave; what stands before it has left, or was 0.
local function count_entry(ledger, p, index, at, delta, before)
  local spans = ledger.spans
  if index >= spans[p + 2] then
    spans[p + 4] = min(NEVER, spans[p + 4] + delta)
    if index == spans[p + 2] then
      spans[p + 3] = 0 -- due for advance: it may be 0 now, or the first
    end
  elseif is_live(ledger, p, at) then
    spans[p + 2], spans[p + 3], spans[p + 4] = index, 0, min(NEVER, spans[p + 4] + before + delta)
  end
end

-- Takes an amount at a moment not before any other; prepare_ledger was called for it. Nothing in here can fail.
local function append_ledger(ledger, at, amount)
  if ledger.body then
    rewrite_ledger(ledger)
    if ledger.joins then -- it may have been merged with others
      local _
      _, ledger.tail = sunpack(ENTRY, ledger_entries(ledger, ledger.n - 1, ledger.n))
    end
  end
  local spans, n = ledger.spans, ledger.n
  local index = ledger.joins and n - 1 or n
  if ledger.joins and ledger.last < at then
    ledger.merged = at
  end
  write_entry(ledger, index, at, min(NEVER, ledger.tail + amount))
  ledger.n, ledger.last, ledger.total, ledger.now = index + 1, at, (ledger.total + amount) % NEVER, max(ledger.now, at)
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    count_entry(ledger, p, index, at, amount, ledger.tail)
    if spans[p + 2] == n and amount > 0 and spans[p + 1] ~= CALENDAR then
      spans[p + 3] = at + spans[p]
    end
  end
  touch(ledger)
  return index
end

-- Plans to change what was taken at a moment: returns the entry's index, time and amount, or nil if it is gone. Its index was
-- `hint` when it was taken.
local function find_taken(ledger, at, hint)
  if at <= ledger.dropped then
    return nil
  end
  if hint and hint < ledger.n then
    local time, amount = sunpack(ENTRY, ledger_entries(ledger, hint, hint + 1))
    if time == at then
      return hint, time, amount
    end
  end
  local index, time, amount = ledger_find(ledger, at)
  if time and (time == at or at <= ledger.merged) then
    return index, time, amount
  end
  return nil
end

-- Changes an entry by delta; find_taken has found it. Nothing in here can fail.
local function change_entry(ledger, index, time, amount, delta)
  local after = min(NEVER, max(0, amount + delta))
  delta = after - amount
  write_entry(ledger, index, time, after)
  ledger.total = max(0, ledger.total + delta) % NEVER
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    count_entry(ledger, p, index, time, delta, amount)
  end
  touch(ledger)
end

-- Whether a booking at a moment is to join the entry at `time`, the next one: it stands for what was taken there, too, if it was
-- merged. None joins one on the other side of a calendar's start.
local function is_joined(ledger, at, time)
  if at > ledger.merged then
    return time == at
  end
  local spans = ledger.spans
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    if spans[p + 1] == CALENDAR and at < spans[p + 5] and spans[p + 5] <= time then
      return false
    end
  end
  return true
end

-- Reads what insert_entry needs.
local function prepare_insert(ledger, at)
  local index, time, amount = ledger_find(ledger, at)
  local plan = { index = index }
  if time and is_joined(ledger, at, time) then
    plan.time, plan.amount = time, amount
    return plan
  end
  plan.tail = ledger_entries(ledger, index, ledger.n)
  if ledger.n >= ledger.room or ledger.k > ledger.slots then
    plan.body = ledger_entries(ledger, 0, ledger.n)
  end
  return plan
end

-- Books an amount at a moment of the past. Nothing in here can fail.
local function insert_entry(ledger, plan, at, amount)
  if plan.time then
    change_entry(ledger, plan.index, plan.time, plan.amount, amount)
    return
  end
  if plan.body then -- find the place again in what is laid out anew, where there is room
    ledger.body = plan.body
    rewrite_ledger(ledger)
    insert_entry(ledger, prepare_insert(ledger, at), at, amount)
    return
  end
  local index = plan.index
  local spans = ledger.spans
  call('SETRANGE', ledger.key, sformat('%d', ledger_head_size(ledger.slots) + index * ENTRY_SIZE),
    spack(ENTRY, at, amount) .. plan.tail)
  ledger.n, ledger.last = ledger.n + 1, max(ledger.last, at)
  ledger.total, ledger.now = (ledger.total + amount) % NEVER, max(ledger.now, at)
  for p = 1, ledger.k * SPAN_FIELDS, SPAN_FIELDS do
    if spans[p + 2] >= index then
      spans[p + 2] = spans[p + 2] + 1
    end
    count_entry(ledger, p, index, at, amount, 0)
  end
  touch(ledger)
end

-- How long a subject's open holds are kept, for ledgers that keep theirs for `retain`: longer than those, since what a hold has there is
-- counted down when its lease ends.
local function open_life(retain)
  return LONGEST_LEASE + 2 * retain + GRACE
end

-- A decision that takes nothing notes only how long entries are to be kept: where its windows stand it keeps to itself, since its
-- clock may have been ahead.
local function write_ledgers()
  for i = 1, #renewed do
    local ledger = renewed[i]
    if ledger.slots > 0 and not ledger.dirty then
      local lifetime = ledger_lifetime(ledger)
      call('SETRANGE', ledger.key, RETENTION_OFFSET, spack('>I7I7I7', ledger.retain, ledger.asked, ledger.expires))
      call('PEXPIRE', ledger.key, lifetime)
      local open, life = ssub(ledger.key, 1, -2) .. 'h', open_life(ledger.retain) / 1000
      local lives = call('PTTL', open)
      if lives > 0 and lives < life then
        call('PEXPIRE', open, sformat('%d', life))
      end
    end
  end
  for i = 1, #touched do
    local ledger = touched[i]
    if ledger.slots > 0 then
      local lifetime
      if ledger.expires - clock < ledger.now - clock + ledger.retain then
        lifetime = ledger_lifetime(ledger)
      end
      call('SETRANGE', ledger.key, '0', pack_ledger(ledger))
      if lifetime then
        call('PEXPIRE', ledger.key, lifetime)
      end
    end
  end
end
