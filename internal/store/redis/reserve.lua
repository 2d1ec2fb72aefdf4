-- Decides many requests that hold, or that ask for tokens, money or slots, each by itself and in order.
--
-- KEYS: per request, one key per check: a log, a ledger, or a subject's open holds. ARGV: one request each: '>BBB' number of
-- checks, flags, and 1 with a hold; each check '>BI7I7I7' unit, perhaps with SAME, amount, version of the override that it was made from, longest
-- window; its spec as log.lua has it, and behind it '>I7I7I7I7' for each window of a calendar: where the window before the present
-- one, the present one and the next begin, and where that ends; then the hold '>Bc8I7I7I7B' flags, fingerprint, lease, nano-USD,
-- tokens, length of the id; and the id. Returns one answer per request: '>BI7' verdict, clock; per check '>I7I7I7' its time,
-- amount ever taken, amount held; per limit '>I7I7I7' used, reset, wait; and what the hold came to, see hold_state.

local LOOK = 1 -- flag of a request: answer only, take nothing
local EXTEND, IN_LINE, AWAY = 4, 8, 16 -- flags of a request's hold, beside SLOT and GIVES_BACK; AWAY: not at its first subject
local REQUESTS, TOKENS, USD, CONCURRENT = 1, 2, 3, 4
local SAME = 128 -- added to a check's unit: its subject is that of the check before

local logs, dirty, renewed_logs, specs_of = {}, {}, {}, {}

local function spec_of(raw)
  local spec = specs_of[raw]
  if not spec then
    spec = parse_specs(raw)[1]
    specs_of[raw] = spec
  end
  return spec
end

-- What one decision works with. It is used again by the next: a script that makes few tables makes little garbage.
local request = { flags = 0, count = 0, hold = false, first = false, record_key = false, at = 0 }
local the_hold = {
  flags = 0, print = '', lease = 0, usd = 0, tokens = 0, id = '', slot = false, extend = false, in_line = false, away = false,
}
local all_checks, checks = {}, {} -- those made so far, and those of this decision

local function check_at(c)
  local check = all_checks[c]
  if not check then
    check = {
      key = '', subject = '', unit = 0, amount = 0, override = 0, retain = 0, spec = false, calendars = false, log = false,
      ledger = false, it = false, states = {}, resets = {}, values = {}, waits = {}, ahead = 0, missing = false,
    }
    all_checks[c] = check
  end
  checks[c] = check
  return check
end

-- Reads a request. `base` is the number of keys before its own.
local function parse(raw, base)
  local count, flags, holds = sbyte(raw, 1, 3)
  local position, subject = 4, nil
  for c = count + 1, #checks do
    checks[c] = nil
  end
  for c = 1, count do
    local check, unit = check_at(c), nil
    unit, check.amount, check.override, check.retain, position = sunpack('>BI7I7I7', raw, position)
    check.key = KEYS[base + c]
    if unit < SAME then
      subject = ssub(check.key, 1, -2)
    else
      unit = unit - SAME
    end
    local size = 1 + sbyte(raw, position) * 16
    check.subject, check.unit, check.spec = subject, unit, spec_of(ssub(raw, position, position + size - 1))
    check.calendars, check.log, check.ledger, check.it, check.ahead, check.missing = false, false, false, false, 0, false
    position = position + size
    for i = 1, check.spec.k do
      if check.spec[i * 4 - 1] == CALENDAR then
        check.calendars = check.calendars or {}
        check.calendars[i] = { sunpack('>I7I7I7I7', raw, position) }
        position = position + 28
      end
    end
  end
  request.flags, request.count, request.hold = flags, count, false
  if holds == 1 then
    local hold, bits, length, rest = the_hold, nil, nil, nil
    bits, hold.print, hold.lease, hold.usd, hold.tokens, length, rest = sunpack('>Bc8I7I7I7B', raw, position)
    hold.id, hold.flags, hold.slot = ssub(raw, rest, rest + length - 1), bits % EXTEND, bits % 2 == 1
    hold.extend, hold.in_line = floor(bits / EXTEND) % 2 == 1, floor(bits / IN_LINE) % 2 == 1
    hold.away = floor(bits / AWAY) % 2 == 1
    request.hold, request.first = hold, checks[1].subject
    request.record_key = checks[1].subject .. 'h:' .. hold.id
  end
end

-- Loads what the checks are about; returns what is stale. The leases that have ended are booked first.
local function load_all()
  local stale, at, version = nil, clock, nil
  for c = 1, request.count do
    local check, before = checks[c], checks[c - 1]
    local asked = before and before.subject == check.subject
    if check.unit ~= REQUESTS then
      check.it = end_leases(check.subject)
    end
    if check.spec.k == 0 then -- of an extension: it only names its subject
      version = asked and version or read_override(check.key)
    elseif check.unit == REQUESTS then
      local log = logs[check.key]
      if not log then
        log = load_log(check.key, clock)
        logs[check.key] = log
      end
      check.log, version = log, log[OVERRIDE]
    elseif check.unit ~= CONCURRENT then
      check.ledger = load_ledger(check.key)
      version, at = check.ledger.override, max(at, check.ledger.last, check.ledger.born + 1)
    elseif not asked then
      version = read_override(check.key)
    end
    if version ~= check.override then
      local newest, value = read_override(check.key)
      stale = stale or {}
      stale[#stale + 1] = spack('>BI7I4', c - 1, newest, #value) .. value
    end
  end
  request.at = at
  return stale
end

-- How one check stands: fills check.states, and says whether it fits `need` more.
local function look_at(check, need)
  local states = check.states
  if check.spec.k == 0 then
    return true
  elseif check.unit == REQUESTS then
    local log, values, waits = check.log, check.values, check.waits
    local fits = look(log, check.spec, need, values, 0, waits, 0, clock)
    if renew(log, check.spec) then
      renewed_logs[#renewed_logs + 1] = log
    end
    for i = 1, check.spec.k do
      states[i * 3 - 2], states[i * 3 - 1], states[i * 3] = values[i * 2 + 1], values[i * 2 + 2], waits[i]
    end
    return fits
  elseif check.unit ~= CONCURRENT then
    check.ledger.now = max(check.ledger.now, request.at)
    return look_ledger(check.ledger, check, need)
  end
  local used, reset = slots_in_use(check.it)
  local limit, wait = check.spec[2], 0
  local ahead = 0
  if has_line(check.subject, check.it) then
    ahead = waiters_before(check.subject, request.hold and id_at(check.subject, request.first, request.hold.id) or '')
  end
  if need > limit then
    wait = NEVER
  elseif used + need > limit then
    wait = slot_wait(check.it, used + need - limit)
  elseif used + ahead + need > limit then
    wait = 1 -- a slot is free, but others wait for it
  end
  states[1], states[2], states[3], check.ahead = used, reset, wait, ahead
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
local function take_amount(check)
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
local function take()
  local hold, at = request.hold, request.at
  for _, check in ipairs(checks) do
    if check.amount > 0 and check.unit == REQUESTS then
      prepare(check.log)
    elseif check.ledger and (check.amount > 0 or hold) then
      prepare_ledger(check.ledger, at, check.spec)
    end
  end
  local parts, of, subjects, retains = {}, {}, {}, {} -- of each subject its part, and the indices of its entries
  for _, check in ipairs(checks) do
    local subject = check.subject
    local p = of[subject]
    if not p then
      p = #parts + 1
      parts[p], parts[p + 1], parts[p + 2] = 0, 0, 0
      of[subject], subjects[#subjects + 1], retains[p] = p, check, 0
    end
    if check.unit == REQUESTS then
      take_requests(check)
    elseif check.ledger then
      local index = take_amount(check)
      if hold and index then
        check.ledger.held, retains[p] = check.ledger.held + check.amount, max(retains[p], check.ledger.retain)
        parts[p] = parts[p] + (check.unit == USD and IN_USD or IN_TOKENS)
        parts[p + (check.unit == USD and 1 or 2)] = index
      end
    elseif hold then
      if check.amount > 0 then
        check.states[1] = check.states[1] + check.amount
        check.states[2] = check.states[2] > 0 and min(check.states[2], hold.lease) or hold.lease
        check.it.used, check.it.first = check.states[1], check.states[2]
      end
      if has_line(subject, check.it) then
        leave_line(subject, id_at(subject, request.first, hold.id))
      end
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
    parts[p] = parts[p] % IN_OPEN + (slot and IN_OPEN or 0)
    if parts[p] > 0 then
      open_hold(end_leases(check.subject), pack_open(open_flags(parts[p], hold.flags), at, hold.usd, hold.tokens, id_at(check.subject, request.first, hold.id)),
        slot, record.expires, retains[p])
    end
  end
  call('SET', request.record_key, pack_record(ACTIVE, record), 'PX', record_life(record.expires))
  return hold_state(ACTIVE, false, record)
end

-- A subject's part in the hold that an extension is about; 0 if it has none.
local function part_of(record, subject)
  local i, last = 0, nil
  for _, check in ipairs(checks) do
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
local function each_open(record, fn)
  local last
  for _, check in ipairs(checks) do
    local subject = check.subject
    local part = subject ~= last and part_of(record, subject) or 0
    last = subject
    if part > 0 then
      fn(subject, open_flags(part, record.flags), id_at(subject, request.first, request.hold.id), part >= IN_OPEN)
    end
  end
end

-- What an extension raises in a subject's ledgers: in all that the hold is in, since its settlement takes all of it out of them, also
-- where no limit asks any more. Adds to the plans, each a ledger, how much more is held, and the entry, if it is there.
local function plan_raise(plans, record, subject, more_usd, more_tokens)
  local part = part_of(record, subject)
  for u, more in ipairs({ more_usd, more_tokens }) do
    local ledger = more > 0 and floor(part / u) % 2 == 1 and ledger_of(subject, u)
    if ledger and ledger.slots > 0 and record.at > ledger.born then -- else it was reset
      plans[#plans + 1] = { ledger, more, find_taken(ledger, record.at) }
    end
  end
end

-- Renews a lease, and raises what is held where that fits. All that can fail comes before the first write.
local function extend_hold(record, fits, retained)
  local hold, plans = request.hold, {}
  local usd, tokens = record.usd, record.tokens
  if fits then
    usd, tokens = max(hold.usd, usd), max(hold.tokens, tokens)
    each_open(record, function(subject)
      plan_raise(plans, record, subject, usd - record.usd, tokens - record.tokens)
    end)
  end
  for _, plan in ipairs(plans) do
    local ledger, more, index, time, amount = unpack(plan)
    ledger.held = ledger.held + more
    if index then
      change_entry(ledger, index, time, amount, more)
    end
    touch(ledger)
  end
  for _, check in ipairs(checks) do
    if #plans > 0 and check.ledger and check.missing > 0 then
      local waits = check.waits
      for i = 1, check.spec.k do
        waits[i] = check.states[i * 3]
      end
      look_ledger(check.ledger, check, 0) -- windows that the admission has left do not see it
      for i = 1, check.spec.k do
        check.states[i * 3] = waits[i]
      end
    end
  end
  for _, check in ipairs(checks) do
    if check.missing == 0 then
      for i = 3, check.spec.k * 3, 3 do
        check.states[i] = 0
      end
    end
  end
  local expires = clock + hold.lease
  each_open(record, function(subject, flags, id, slot)
    local it = end_leases(subject)
    call('ZREM', it.key, pack_open(flags, record.at, record.usd, record.tokens, id))
    open_hold(it, pack_open(flags, record.at, usd, tokens, id), slot, expires, retained[subject])
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

local function answer(verdict, state)
  local values, n = { verdict, clock }, 2
  for _, check in ipairs(checks) do
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
-- Also returns how long each subject's ledgers keep what they hold.
local function is_open(record)
  local open, retained = true, {}
  each_open(record, function(subject, flags, id)
    local key = subject .. 'h'
    retained[subject] = max(load_ledger(subject .. 'u').retain, load_ledger(subject .. 't').retain)
    local found = must(pcall_redis('ZSCORE', key, pack_open(flags, record.at, record.usd, record.tokens, id)), key)
    open = open and found
  end)
  if not open then
    record.status = EXPIRED
  end
  return open, retained
end

local function decide()
  local hold = request.flags ~= LOOK and request.hold or nil
  local stale = load_all()
  if stale then
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
  local extending, retained = false, nil
  if hold and hold.extend and record.status == ACTIVE then
    extending, retained = is_open(record)
  end
  local fits, slots_only, ahead = true, true, 0
  for _, check in ipairs(checks) do
    local need = need_of(check, extending and record)
    local good = look_at(check, need) or extending and need == 0
    fits = fits and good
    if not good then
      slots_only = slots_only and check.unit == CONCURRENT and check.states[3] ~= NEVER
      ahead = max(ahead, check.ahead or 0)
    end
  end
  local verdict = fits and ADMITTED or DENIED
  if extending then
    return answer(verdict, extend_hold(record, fits, retained))
  elseif record then
    if hold.away and record.status == ACTIVE then -- each call that finds it may have to undo it: the last one does
      record.calls = record.calls + 1
      call('SET', record.key, pack_record(ACTIVE, record), 'KEEPTTL')
    end
    return answer(verdict, hold_state(record.status, not hold.extend, record))
  elseif fits and request.flags == LOOK then
    return answer(verdict, hold_state(NO_HOLD))
  elseif fits then
    local state = take()
    return answer(verdict, state)
  end
  hold = request.hold -- a step on a Cluster that only looks stands in line all the same
  local queued = hold and hold.in_line and slots_only
  if hold and hold.in_line then
    for _, check in ipairs(checks) do
      if check.unit == CONCURRENT then
        if queued and check.states[3] > 0 and check.spec[4] == 1 then
          join_line(check.subject, check.it, id_at(check.subject, request.first, hold.id))
        elseif has_line(check.subject, check.it) then
          leave_line(check.subject, id_at(check.subject, request.first, hold.id))
        end
      end
    end
  end
  return answer(verdict, hold_state(NO_HOLD, false, nil, queued, queued and ahead or 0))
end

local answers, base = {}, 0
for r = 1, arguments do
  parse(ARGV[r], base)
  base = base + request.count
  local good, reply = pcall(decide)
  answers[r] = good and reply or failure(reply)
end
write_logs(dirty, renewed_logs, clock)
write_ledgers()
return with_leases_over(answers)
