-- Decides many requests that hold, or that ask for tokens, money or slots, each by itself and in order.
--
-- KEYS: per request, one key per check: a log, a ledger, or a subject's open holds. ARGV: one request each: '>BBB' number of
-- checks, flags, and 1 with a hold; each check '>BI7I7I7' unit, amount, version of the override that it was made from, longest
-- window; its spec as log.lua has it, and behind it '>I7I7I7I7' for each window of a calendar: where the window before the present
-- one, the present one and the next begin, and where that ends; then the hold '>Bc8I7I7I7B' flags, fingerprint, lease, nano-USD,
-- tokens, length of the id; and the id. Returns one answer per request: '>BI7' verdict, clock; per check '>I7I7I7' its time,
-- amount ever taken, amount held; per limit '>I7I7I7' used, reset, wait; and what the hold came to, see hold_state.

local LOOK = 1 -- flag of a request: answer only, take nothing
local EXTEND, IN_LINE, AWAY = 4, 8, 16 -- flags of a request's hold, beside SLOT and GIVES_BACK; AWAY: not at its first subject
local REQUESTS, TOKENS, USD, CONCURRENT = 1, 2, 3, 4

local logs, dirty, specs_of = {}, {}, {}

local function spec_of(raw)
  local spec = specs_of[raw]
  if not spec then
    spec = parse_specs(raw)[1]
    specs_of[raw] = spec
  end
  return spec
end

-- Reads a request. `base` is the number of keys before its own.
local function parse(raw, base)
  local count, flags, holds = sbyte(raw, 1, 3)
  local request = { flags = flags, checks = {}, hold = false, first = false, record_key = false, at = 0 }
  local position, unit, amount, override, retain = 4, nil, nil, nil, nil
  for c = 1, count do
    unit, amount, override, retain, position = sunpack('>BI7I7I7', raw, position)
    local size, key = 1 + sbyte(raw, position) * 16, KEYS[base + c]
    local check = {
      key = key, subject = ssub(key, 1, -2), unit = unit, amount = amount, override = override, retain = retain,
      spec = spec_of(ssub(raw, position, position + size - 1)), calendars = false, log = false, ledger = false, it = false,
      states = false, resets = false, values = false, ahead = 0, missing = false,
    }
    position = position + size
    for i = 1, check.spec.k do
      if check.spec[i * 4 - 1] == CALENDAR then
        check.calendars = check.calendars or {}
        check.calendars[i] = { sunpack('>I7I7I7I7', raw, position) }
        position = position + 28
      end
    end
    request.checks[c] = check
  end
  if holds == 1 then
    local bits, print, lease, usd, tokens, length, rest = sunpack('>Bc8I7I7I7B', raw, position)
    request.hold = {
      flags = bits % EXTEND, print = print, lease = lease, usd = usd, tokens = tokens, id = ssub(raw, rest, rest + length - 1),
      slot = bits % 2 == 1, extend = floor(bits / EXTEND) % 2 == 1, in_line = floor(bits / IN_LINE) % 2 == 1,
      away = floor(bits / AWAY) % 2 == 1,
    }
  end
  return request
end

-- Loads what the checks are about; returns what is stale. The leases that have ended are booked first.
local function load_all(request)
  local stale, asked, at = {}, {}, clock
  for c, check in ipairs(request.checks) do
    local version
    if check.spec.k == 0 then -- of an extension: it only names its subject
      version = read_override(check.key)
    elseif check.unit == REQUESTS then
      local log = logs[check.key] or load_log(check.key, clock)
      logs[check.key], check.log, version = log, log, log[OVERRIDE]
    elseif check.unit ~= CONCURRENT then
      check.ledger = load_ledger(check.key)
      version, at = check.ledger.override, max(at, check.ledger.last)
    elseif asked[check.subject] then
      version = asked[check.subject]
    else
      version = read_override(check.key)
    end
    if check.unit ~= REQUESTS then
      check.it = end_leases(check.subject)
    end
    asked[check.subject] = version
    if version ~= check.override then
      local newest, value = read_override(check.key)
      stale[#stale + 1] = spack('>BI7I4', c - 1, newest, #value) .. value
    end
  end
  request.at = at
  return stale
end

-- How one check stands: fills check.states, and says whether it fits `need` more.
local function look_at(request, check, need)
  if check.spec.k == 0 then
    check.states = {}
    return true
  end
  if check.unit == REQUESTS then
    local values, waits, states = {}, {}, {}
    local fits = look(check.log, check.spec, need, values, 0, waits, 0, clock)
    if renew(check.log, check.spec) and not check.log[DIRTY] then
      check.log[DIRTY] = true
      dirty[#dirty + 1] = check.log
    end
    check.values = values
    for i = 1, check.spec.k do
      states[i * 3 - 2], states[i * 3 - 1], states[i * 3] = values[i * 2 + 1], values[i * 2 + 2], waits[i]
    end
    check.states = states
    return fits
  elseif check.unit ~= CONCURRENT then
    check.ledger.now = max(check.ledger.now, request.at)
    return look_ledger(check.ledger, check, need)
  end
  local used, reset = slots_in_use(check.it)
  local limit, wait = check.spec[2], 0
  local ahead = waiters_before(check.subject, check.it, request.hold and id_at(check.subject, request.first, request.hold.id) or '')
  if need > limit then
    wait = NEVER
  elseif used + need > limit then
    wait = slot_wait(check.it, used + need - limit)
  elseif used + ahead + need > limit then
    wait = 1 -- a slot is free, but others wait for it
  end
  check.states, check.ahead = { used, reset, wait }, ahead
  return wait == 0 or check.spec[4] == 0
end

local function take_requests(check)
  if check.amount == 0 then
    return
  end
  local log, values, states = check.log, check.values, check.states
  append(log, check.spec, check.amount, values, 0, clock)
  for i = 1, check.spec.k do
    states[i * 3 - 2], states[i * 3 - 1] = values[i * 2 + 1], values[i * 2 + 2]
  end
  if not log[DIRTY] then
    log[DIRTY] = true
    dirty[#dirty + 1] = log
  end
end

-- Returns the index of the entry, nil if there is none.
local function take_amount(request, check)
  local amount, states = check.amount, check.states
  if amount == 0 and not request.hold then
    return nil
  end
  for i = 1, check.spec.k do
    states[i * 3 - 2] = states[i * 3 - 2] + amount
    if states[i * 3 - 1] == 0 and amount > 0 then
      states[i * 3 - 1] = check.resets[i]
    end
  end
  return append_ledger(check.ledger, request.at, amount)
end

-- Takes what the request asks for. All that can fail comes before the first write.
local function take(request)
  local hold, at = request.hold, request.at
  for _, check in ipairs(request.checks) do
    if check.amount > 0 and check.unit == REQUESTS then
      prepare(check.log)
    elseif check.ledger and (check.amount > 0 or hold) then
      prepare_ledger(check.ledger, at, check.spec)
    end
  end
  local parts, of, subjects = {}, {}, {} -- of each subject its part, and the indices of its entries
  for _, check in ipairs(request.checks) do
    local subject = check.subject
    local p = of[subject]
    if not p then
      p = #parts + 1
      parts[p], parts[p + 1], parts[p + 2] = 0, 0, 0
      of[subject], subjects[#subjects + 1] = p, check
    end
    if check.unit == REQUESTS then
      take_requests(check)
    elseif check.ledger then
      local index = take_amount(request, check)
      if hold and index then
        check.ledger.held = check.ledger.held + check.amount
        parts[p] = parts[p] + (check.unit == USD and IN_USD or IN_TOKENS)
        parts[p + (check.unit == USD and 1 or 2)] = index
      end
    elseif hold then
      if check.amount > 0 then
        check.states[1] = check.states[1] + check.amount
        check.states[2] = check.states[2] > 0 and min(check.states[2], hold.lease) or hold.lease
        check.it.used, check.it.first = check.states[1], check.states[2]
      end
      leave_line(subject, check.it, id_at(subject, request.first, hold.id))
      parts[p] = parts[p] + IN_OPEN
    end
  end
  if not hold then
    return hold_state(NO_HOLD)
  end
  local record = {
    flags = hold.flags, print = hold.print, at = at, expires = clock + hold.lease, usd = hold.usd, tokens = hold.tokens,
    calls = 1, count = #subjects, parts = parts,
  }
  for i, check in ipairs(subjects) do
    local p = i * PART_FIELDS - 2
    local slot = hold.slot and parts[p] >= IN_OPEN
    local flags = (slot and SLOT or 0) + (floor(hold.flags / GIVES_BACK) % 2) * GIVES_BACK + (parts[p] % IN_OPEN) * 4
    parts[p] = parts[p] % IN_OPEN + (slot and IN_OPEN or 0)
    if parts[p] > 0 then
      open_hold(end_leases(check.subject), pack_open(flags, at, hold.usd, hold.tokens, id_at(check.subject, request.first, hold.id)),
        slot, record.expires)
    end
  end
  call('SET', request.record_key, pack_record(ACTIVE, record), 'PX', record_life(record.expires))
  return hold_state(ACTIVE, false, record)
end

-- A subject's part in the hold that an extension is about; 0 if it has none.
local function part_of(request, record, subject)
  local i, last = 0, nil
  for _, check in ipairs(request.checks) do
    if check.subject ~= last then
      last, i = check.subject, i + 1
    end
    if last == subject then
      break
    end
  end
  return i <= record.count and record.parts[i * PART_FIELDS - 2] or 0
end

-- Calls fn with each subject of an extension that has a part in the hold, the flags and the id of its open hold, and its slot.
local function each_open(request, record, fn)
  local last
  for _, check in ipairs(request.checks) do
    local subject = check.subject
    local part = subject ~= last and part_of(request, record, subject) or 0
    last = subject
    if part > 0 then
      local slot = part >= IN_OPEN
      local flags = (slot and SLOT or 0) + (floor(record.flags / GIVES_BACK) % 2) * GIVES_BACK + (part % IN_OPEN) * 4
      fn(subject, flags, id_at(subject, request.first, request.hold.id), slot)
    end
  end
end

-- Renews a lease, and raises what is held where that fits. All that can fail comes before the first write.
local function extend_hold(request, record, fits)
  local hold, changes = request.hold, {}
  local usd, tokens = max(hold.usd, record.usd), max(hold.tokens, record.tokens)
  if fits then
    for _, check in ipairs(request.checks) do
      local part = part_of(request, record, check.subject)
      local takes_part = floor(part / (check.unit == USD and IN_USD or IN_TOKENS)) % 2 == 1
      if check.ledger and check.missing > 0 and takes_part then
        local index, time, amount = find_taken(check.ledger, record.at, 0)
        changes[#changes + 1] = { check, index, time, amount }
      end
    end
  else
    usd, tokens = record.usd, record.tokens
  end
  for _, change in ipairs(changes) do
    local check = change[1]
    check.ledger.held = check.ledger.held + check.missing
    if change[2] then
      change_entry(check.ledger, change[2], change[3], change[4], check.missing)
    end
    touch(check.ledger)
    local before = check.states
    look_ledger(check.ledger, check, 0) -- windows that the admission has left do not see it
    for i = 3, check.spec.k * 3, 3 do
      check.states[i] = before[i]
    end
  end
  for _, check in ipairs(request.checks) do
    if check.missing == 0 then
      for i = 3, check.spec.k * 3, 3 do
        check.states[i] = 0
      end
    end
  end
  local expires = clock + hold.lease
  each_open(request, record, function(subject, flags, id, slot)
    local it = end_leases(subject)
    call('ZREM', it.key, pack_open(flags, record.at, record.usd, record.tokens, id))
    open_hold(it, pack_open(flags, record.at, usd, tokens, id), slot, expires)
    it.used = false
  end)
  record.expires, record.usd, record.tokens = expires, usd, tokens
  call('SET', record.key, pack_record(ACTIVE, record), 'PX', record_life(expires))
  return hold_state(ACTIVE, false, record)
end

local answer_formats = {} -- number of values -> format
local function answer_format(n)
  local f = answer_formats[n]
  if not f then
    f = '>BI7' .. srep('I7', n - 2)
    answer_formats[n] = f
  end
  return f
end

local function answer(request, verdict, state)
  local values, n = { verdict, clock }, 2
  for _, check in ipairs(request.checks) do
    local now, total, held = clock, 0, 0
    if check.log then
      now, total = check.log[NOW], check.log[TOTAL]
    elseif check.ledger then
      now, total, held = request.at, check.ledger.total, check.ledger.held
    end
    local k = check.spec.k * 3
    values[n + 1], values[n + 2], values[n + 3] = now, total, held
    for i = 1, k do
      values[n + 3 + i] = check.states[i]
    end
    n = n + 3 + k
  end
  return spack(answer_format(n), unpack(values, 1, n)) .. state
end

-- What a check asks for: of an extension, what is missing of it.
local function need_of(check, extended)
  if extended and check.ledger then
    local has = check.unit == USD and extended.usd or extended.tokens
    check.missing = max(0, check.amount - has)
    return check.missing
  end
  return check.amount > 0 and check.amount or 1
end

-- Whether no part of an active hold has been ended: a script whose clock was ahead of this one's may have done so.
local function is_open(request, record)
  local open = true
  each_open(request, record, function(subject, flags, id)
    local key = subject .. 'h'
    local found = must(pcall_redis('ZSCORE', key, pack_open(flags, record.at, record.usd, record.tokens, id)), key)
    open = open and found
  end)
  if not open then
    record.status = EXPIRED
  end
  return open
end

local function decide(request)
  local hold = request.flags ~= LOOK and request.hold or nil
  local stale = load_all(request)
  if #stale > 0 then
    return stale_answer(stale)
  end
  local record
  if hold then
    record = load_record(request.record_key)
    if record and hold.print ~= record.print and not (hold.extend and hold.print == '\0\0\0\0\0\0\0\0') then
      return spack('>B', MISMATCH)
    elseif hold.extend and not record then
      return spack('>B', UNKNOWN)
    end
  end
  local extending = hold and hold.extend and record.status == ACTIVE and is_open(request, record)
  local fits, slots_only, ahead = true, true, 0
  for _, check in ipairs(request.checks) do
    local need = need_of(check, extending and record)
    local good = look_at(request, check, need) or extending and need == 0
    fits = fits and good
    if not good then
      slots_only = slots_only and check.unit == CONCURRENT and check.states[3] ~= NEVER
      ahead = max(ahead, check.ahead or 0)
    end
  end
  local verdict = fits and ADMITTED or DENIED
  if extending then
    return answer(request, verdict, extend_hold(request, record, fits))
  elseif record then
    if hold.away and record.status == ACTIVE then -- each call that finds it may have to undo it: the last one does
      record.calls = record.calls + 1
      call('SET', record.key, pack_record(ACTIVE, record), 'KEEPTTL')
    end
    return answer(request, verdict, hold_state(record.status, not hold.extend, record))
  elseif fits and request.flags == LOOK then
    return answer(request, verdict, hold_state(NO_HOLD))
  elseif fits then
    local state = take(request)
    return answer(request, verdict, state)
  end
  hold = request.hold -- a step on a Cluster that only looks stands in line all the same
  local queued = hold and hold.in_line and slots_only
  if hold and hold.in_line then
    for _, check in ipairs(request.checks) do
      if check.unit == CONCURRENT then
        if queued and check.states[3] > 0 and check.spec[4] == 1 then
          join_line(check.subject, check.it, id_at(check.subject, request.first, hold.id))
        elseif check.ahead > 0 or queued then
          leave_line(check.subject, check.it, id_at(check.subject, request.first, hold.id))
        end
      end
    end
  end
  return answer(request, verdict, hold_state(NO_HOLD, false, nil, queued, queued and ahead or 0))
end

local answers, base = {}, 0
for r = 1, arguments do
  local request = parse(ARGV[r], base)
  local count = #request.checks
  if request.hold then
    request.first = ssub(KEYS[base + 1], 1, -2)
    request.record_key = request.first .. 'h:' .. request.hold.id
  end
  base = base + count
  local good, reply = pcall(decide, request)
  answers[r] = good and reply or failure(reply)
end
for i = 1, #dirty do
  write_log(dirty[i], clock)
end
write_ledgers()
return answers
