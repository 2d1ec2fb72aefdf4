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
  local request, position = { flags = flags, checks = {} }, 4
  for c = 1, count do
    local check = { key = KEYS[base + c], resets = {} }
    check.unit, check.amount, check.override, check.retain, position = sunpack('>BI7I7I7', raw, position)
    local size = 1 + sbyte(raw, position) * 16
    check.spec = spec_of(ssub(raw, position, position + size - 1))
    position = position + size
    for i = 1, check.spec.k do
      if check.spec[i * 4 - 1] == CALENDAR then
        check.calendars = check.calendars or {}
        check.calendars[i] = { sunpack('>I7I7I7I7', raw, position) }
        position = position + 28
      end
    end
    check.subject = ssub(check.key, 1, -2)
    request.checks[c] = check
  end
  if holds == 1 then
    local hold, length = {}, nil
    hold.flags, hold.print, hold.lease, hold.usd, hold.tokens, length, position = sunpack('>Bc8I7I7I7B', raw, position)
    hold.id = ssub(raw, position, position + length - 1)
    hold.slot, hold.extend = hold.flags % 2 == 1, floor(hold.flags / EXTEND) % 2 == 1
    hold.in_line, hold.away = floor(hold.flags / IN_LINE) % 2 == 1, floor(hold.flags / AWAY) % 2 == 1
    hold.flags = hold.flags % EXTEND
    request.hold = hold
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
    if check.unit ~= REQUESTS and not asked[check.subject .. 'h'] then
      asked[check.subject .. 'h'] = true
      end_leases(check.subject)
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
  local used, limit, wait = slots_in_use(check.subject), check.spec[2], 0
  local reset = used > 0 and slot_wait(check.subject, 1) or 0
  local ahead = waiters_before(check.subject, request.hold and id_at(check.subject, request.first, request.hold.id) or '')
  if need > limit then
    wait = NEVER
  elseif used + need > limit then
    wait = slot_wait(check.subject, used + need - limit)
  elseif used + ahead + need > limit then
    wait = 1 -- a slot is free, but others wait for it
  end
  check.states, check.ahead = { used, reset, wait }, ahead
  return wait == 0 or check.spec[4] == 0
end

-- Takes what the request asks for. All that can fail comes before the first write.
local function take(request)
  local hold, at = request.hold, request.at
  for _, check in ipairs(request.checks) do
    if check.amount > 0 and check.unit == REQUESTS then
      prepare(check.log)
    elseif check.ledger and (check.amount > 0 or hold) then
      prepare_ledger(check.ledger, at)
    end
  end
  local parts, of, subjects = {}, {}, {}
  for _, check in ipairs(request.checks) do
    local subject = check.subject
    if not of[subject] then
      parts[#parts + 1], subjects[#subjects + 1] = 0, subject
      of[subject] = #parts
    end
    local part, amount = of[subject], check.amount
    if check.unit == REQUESTS then
      if amount > 0 then
        append(check.log, check.spec, amount, check.values, 0, clock)
        for i = 1, check.spec.k do
          check.states[i * 3 - 2], check.states[i * 3 - 1] = check.values[i * 2 + 1], check.values[i * 2 + 2]
        end
        if not check.log[DIRTY] then
          check.log[DIRTY] = true
          dirty[#dirty + 1] = check.log
        end
      end
    elseif check.ledger then
      if amount > 0 or hold then
        append_ledger(check.ledger, at, amount)
        for i = 1, check.spec.k do
          check.states[i * 3 - 2] = check.states[i * 3 - 2] + amount
          if check.states[i * 3 - 1] == 0 and amount > 0 then
            check.states[i * 3 - 1] = check.resets[i]
          end
        end
        if hold then
          check.ledger.held = check.ledger.held + amount
          parts[part] = parts[part] + (check.unit == USD and IN_USD or IN_TOKENS)
        end
      end
    elseif hold then
      if amount > 0 then
        check.states[1] = check.states[1] + amount
        check.states[2] = check.states[2] > 0 and min(check.states[2], hold.lease) or hold.lease
      end
      leave_line(subject, id_at(subject, request.first, hold.id))
      parts[part] = parts[part] + IN_OPEN
    end
  end
  if not hold then
    return hold_state(NO_HOLD)
  end
  local record = {
    flags = hold.flags, print = hold.print, at = at, expires = clock + hold.lease, usd = hold.usd, tokens = hold.tokens,
    calls = 1, parts = parts,
  }
  for i, subject in ipairs(subjects) do
    local part = parts[i]
    if part > 0 then
      local slot = hold.slot and part >= IN_OPEN and SLOT or 0
      local flags = slot + (floor(hold.flags / GIVES_BACK) % 2) * GIVES_BACK + (part % IN_OPEN) * 4
      parts[i] = part % IN_OPEN + (slot == SLOT and IN_OPEN or 0)
      if parts[i] > 0 then
        call('ZADD', subject .. 'h', sformat('%.0f', slot == SLOT and record.expires or -record.expires),
          pack_open(flags, at, hold.usd, hold.tokens, id_at(subject, request.first, hold.id)))
        call('PEXPIRE', subject .. 'h', sformat('%d', (LONGEST_LEASE + GRACE) / 1000))
      end
    end
  end
  call('SET', request.record_key, pack_record(ACTIVE, record), 'PX', record_life(record.expires))
  return hold_state(ACTIVE, false, record)
end

-- Calls fn with each subject of an extension that has a part in the hold, its open hold as it stands in the set, and its slot.
local function each_open(request, record, fn)
  local i, seen = 0, {}
  for _, check in ipairs(request.checks) do
    local subject = check.subject
    if not seen[subject] then
      seen[subject], i = true, i + 1
      local part = record.parts[i] or 0
      if part > 0 then
        local slot = part >= IN_OPEN and SLOT or 0
        local flags = slot + (floor(record.flags / GIVES_BACK) % 2) * GIVES_BACK + (part % IN_OPEN) * 4
        fn(subject .. 'h', flags, id_at(subject, request.first, request.hold.id), slot == SLOT)
      end
    end
  end
end

-- Renews a lease, and raises what is held where that fits. All that can fail comes before the first write.
local function extend_hold(request, record, fits)
  local hold, changes = request.hold, {}
  local usd, tokens = max(hold.usd, record.usd), max(hold.tokens, record.tokens)
  if fits then
    for _, check in ipairs(request.checks) do
      if check.ledger and check.missing > 0 then
        local index, time, amount = find_taken(check.ledger, record.at)
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
  each_open(request, record, function(key, flags, id, slot)
    call('ZREM', key, pack_open(flags, record.at, record.usd, record.tokens, id))
    call('ZADD', key, sformat('%.0f', slot and expires or -expires), pack_open(flags, record.at, usd, tokens, id))
    call('PEXPIRE', key, sformat('%d', (LONGEST_LEASE + GRACE) / 1000))
  end)
  record.expires, record.usd, record.tokens = expires, usd, tokens
  call('SET', record.key, pack_record(ACTIVE, record), 'PX', record_life(expires))
  return hold_state(ACTIVE, false, record)
end

local function answer(request, verdict, state)
  local values, formats = { verdict, clock }, { '>BI7' }
  local n = 2
  for c, check in ipairs(request.checks) do
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
    formats[c + 1] = 'I7I7I7' .. srep('I7', k)
  end
  return spack(table.concat(formats), unpack(values, 1, n)) .. state
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
  each_open(request, record, function(key, flags, id)
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
          join_line(check.subject, id_at(check.subject, request.first, hold.id))
        elseif check.ahead > 0 or queued then
          leave_line(check.subject, id_at(check.subject, request.first, hold.id))
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
