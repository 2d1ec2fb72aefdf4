-- Ends many holds, or books what has none, each by itself and in order.
--
-- KEYS: per settlement, the open holds of each of its subjects. ARGV: one settlement each: '>BBc8I7I7I7' number of subjects, flags,
-- fingerprint, nano-USD, tokens, when to book without a hold; '>I7I7' of each subject its longest windows of USD and of tokens;
-- '>B' length of the id; the id; the memo. Returns one answer per settlement: '>BBBBI7I7I7I7I7I7' ADMITTED, what the hold was,
-- status, 1 if it is a repeat; clock, admission, nano-USD and tokens held, nano-USD and tokens booked now; and the memo.

local RELEASE, KEEP, CANCEL, PIECE, WAITING = 1, 2, 4, 8, 16 -- flags; CANCEL undoes a hold as if it had never been, PIECE a hit
local MARK_LIFE = '60000' -- ms that a repeated undo of a hit is known for one

local function parse(raw, base)
  local count, flags, print, usd, tokens, book, position = sunpack('>BBc8I7I7I7', raw)
  local st = { print = print, usd = usd, tokens = tokens, book = book, subjects = {}, longest = {}, count = count }
  st.release, st.keep = flags % 2 == 1, floor(flags / KEEP) % 2 == 1
  st.cancel, st.piece = floor(flags / CANCEL) % 2 == 1, floor(flags / PIECE) % 2 == 1
  st.waiting = floor(flags / WAITING) % 2 == 1
  for i = 1, count do
    local of_usd, of_tokens
    of_usd, of_tokens, position = sunpack('>I7I7', raw, position)
    st.subjects[i], st.longest[i] = ssub(KEYS[base + i], 1, -2), { of_usd, of_tokens }
  end
  local length = sbyte(raw, position)
  st.id, st.memo = ssub(raw, position + 1, position + length), ssub(raw, position + 1 + length)
  return st
end

local function answer(record, again)
  return spack('>BBBBI7I7I7I7I7I7', ADMITTED, record.was, record.status, again and 1 or 0, clock, record.at, record.usd,
    record.tokens, record.booked_usd, record.booked_tokens) .. record.memo
end

local function close(st, record)
  record.closing, record.memo = st.print, st.memo
  call('SET', record.key, pack_record(CLOSED, record)
    .. spack(CLOSING, record.was, record.status, st.print, record.booked_usd, record.booked_tokens,
      max(record.expires, clock) + KEEP_ANSWERS) .. st.memo,
    'PX', record_life(record.expires))
  return answer(record, false)
end

local function booked_at(ledger, record, hint, actual, held)
  local index, time, amount
  if ledger.slots > 0 then
    index, time, amount = find_taken(ledger, record.at, hint)
  end
  return { ledger = ledger, actual = actual, held = held, index = index, time = time, amount = amount }
end

-- The ledgers that a subject's part of a hold is in: each with what is booked there now, and what is held.
local function booked_in(subject, record, i, usd, tokens)
  local all, part = {}, record.parts[i * PART_FIELDS - 2]
  if part % 2 == 1 then
    all[1] = booked_at(ledger_of(subject, IN_USD), record, record.parts[i * PART_FIELDS - 1], usd, record.usd)
  end
  if floor(part / IN_TOKENS) % 2 == 1 then
    all[#all + 1] = booked_at(ledger_of(subject, IN_TOKENS), record, record.parts[i * PART_FIELDS], tokens, record.tokens)
  end
  return all
end

-- Puts the actual amounts in the place of what a hold holds.
local function settle(st, record)
  local usd, tokens = st.usd, st.tokens
  if st.release or st.cancel then
    usd, tokens = 0, 0
  elseif st.keep then
    usd, tokens = record.usd, record.tokens
  end
  local gives = floor(record.flags / GIVES_BACK) % 2 == 1
  local parts = {}
  for i = 1, min(record.count, st.count) do
    local flags, subject = open_flags(record.parts[i * PART_FIELDS - 2], record.flags), st.subjects[i]
    parts[i] = {
      key = subject .. 'h', booked = booked_in(subject, record, i, usd, tokens),
      open = pack_open(flags, record.at, record.usd, record.tokens, id_at(subject, st.subjects[1], st.id)),
    }
  end
  for i = 1, #parts do
    local open = call('ZREM', parts[i].key, parts[i].open) == 1
    for _, b in ipairs(parts[i].booked) do
      local ledger = b.ledger
      if open and record.at > ledger.born and ledger.slots > 0 then
        ledger.held = max(0, ledger.held - b.held)
        touch(ledger)
      end
      if b.time then
        change_entry(ledger, b.index, b.time, b.amount, b.actual - ((open or not gives) and b.held or 0))
      end
    end
  end
  if st.cancel then
    call('DEL', record.key)
    record.was, record.status, record.booked_usd, record.booked_tokens, record.memo = record.status, RELEASED, 0, 0, ''
    return answer(record, false)
  end
  record.was, record.status = record.status, st.release and RELEASED or CLOSED
  record.booked_usd, record.booked_tokens = usd, tokens
  return close(st, record)
end

-- Books amounts that were never held, in every subject that has windows for them.
local function book(st, key)
  local at = min(st.book, clock)
  local plans = {}
  for i, subject in ipairs(st.subjects) do
    for u, amount in ipairs({ st.usd, st.tokens }) do
      local longest = st.longest[i][u]
      if longest > 0 and amount > 0 and at > clock - longest then
        local ledger = ledger_of(subject, u)
        ledger.retain, ledger.asked = max(ledger.retain, longest), max(ledger.asked, clock)
        plans[#plans + 1] = { ledger, prepare_insert(ledger, at), amount }
      end
    end
  end
  for _, plan in ipairs(plans) do
    insert_entry(plan[1], plan[2], at, plan[3])
  end
  return close(st, {
    key = key, flags = 0, print = srep('\0', 8), at = at, expires = clock, usd = 0, tokens = 0, calls = 0, count = 0, parts = {},
    was = NO_HOLD, status = CLOSED, booked_usd = st.usd, booked_tokens = st.tokens,
  })
end

-- Takes back, once, what was taken without a hold at a moment.
local function undo(st)
  local found = {}
  for i, subject in ipairs(st.subjects) do
    for u, amount in ipairs({ st.usd, st.tokens }) do
      if st.longest[i][u] > 0 and amount > 0 then
        local ledger = ledger_of(subject, u)
        local index, time, had = find_taken(ledger, st.book)
        if time and ledger.slots > 0 then
          found[#found + 1] = { ledger, index, time, had, -amount }
        end
      end
    end
  end
  if call('SET', st.subjects[1] .. 'x:' .. st.id, '', 'NX', 'PX', MARK_LIFE) then
    for _, f in ipairs(found) do
      change_entry(unpack(f))
    end
  end
  return spack('>B', UNKNOWN)
end

local function decide(st)
  if st.piece then
    return undo(st)
  end
  for _, subject in ipairs(st.subjects) do
    end_leases(subject)
  end
  local key = st.subjects[1] .. 'h:' .. st.id
  local record = not st.waiting and load_record(key)
  if not record then
    if st.release or st.cancel or st.book == 0 then
      for _, subject in ipairs(st.subjects) do
        leave_line(subject, id_at(subject, st.subjects[1], st.id))
      end
      return spack('>B', UNKNOWN)
    end
    return book(st, key)
  elseif record.booked_usd then
    if st.cancel then
      return spack('>B', UNKNOWN)
    elseif record.closing ~= st.print then
      return spack('>B', MISMATCH)
    end
    return answer(record, true)
  elseif st.cancel and record.calls > 1 then
    record.calls = record.calls - 1
    call('SET', key, pack_record(ACTIVE, record), 'KEEPTTL')
    return spack('>B', UNKNOWN)
  end
  return settle(st, record)
end

local answers, base = {}, 0
for r = 1, arguments do
  local st = parse(ARGV[r], base)
  base = base + st.count
  local good, reply = pcall(decide, st)
  answers[r] = good and reply or failure(reply)
end
write_ledgers()
return with_leases_over(answers)
