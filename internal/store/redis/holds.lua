-- Open holds and their records, as the scripts of holds read and write them.
--
--   <subject>h        a sorted set of the subject's open holds: '>BI7I7I7' flags, admission, nano-USD, tokens; and the id. The score is
--                     when the lease ends, for a hold without a slot less than 0: so slots in use are those with a score above now.
--                     Away from the hold's first subject its key stands before the id: ids of two subjects may be the same
--   <subject>h:<id>   the hold's record, at the first of the subjects that one script call decides on: '>BBc8I7I7I7I7I2B' status, flags,
--                     fingerprint, admission, end of the lease, nano-USD, tokens, how many calls have found it on a Cluster, number
--                     of subjects; '>BI4I4' of each: its part in the hold, and the index of its entry of USD and of tokens
--                     when it was taken; and once it is closed '>BBc8I7I7I7' what it was before, status, fingerprint of the settlement, nano-USD
--                     and tokens booked, until when this is known; then the memo
--   <subject>w, ...v  sorted sets of who waits for a slot: ids by when they came, and by when their place is lost
--
-- An open hold's status is that of its lease: nothing is written when it ends.

local SLOT, GIVES_BACK = 1, 2 -- flags of a hold
local HAS_USD, HAS_TOKENS = 4, 8 -- of an open hold, besides
local IN_USD, IN_TOKENS, IN_OPEN = 1, 2, 4 -- a subject's part in a hold
local NO_HOLD, ACTIVE, CLOSED, RELEASED, EXPIRED = 0, 1, 2, 3, 4
local OPEN, OPEN_SIZE = '>BI7I7I7', 22
local RECORD, RECORD_SIZE = '>BBc8I7I7I7I7I2B', 41
local PART_SIZE, PART_FIELDS = 9, 3
local CLOSING, CLOSING_SIZE = '>BBc8I7I7I7', 31
local KEEP_ANSWERS = 86400000000
local WAITER_LIFE = 3000000
local MOST_ENDED = 128 -- leases whose end one script call books for a subject; the others have no slot any more
local NO_ID = ':}:' -- ends the key of a subject without an ID
local MISMATCH, UNKNOWN = 8, 9 -- verdicts beside those of log.lua

-- The id of a hold among the holds of any of its subjects.
local function id_at(subject, first, id)
  return subject == first and id or first .. id
end

local now_text, before_text, after_text = sformat('%.0f', clock), sformat('%.0f', -clock), sformat('(%.0f', clock)

-- The flags of a subject's open hold: by its part in the hold, and the hold's flags.
local function open_flags(part, flags)
  return (part >= IN_OPEN and SLOT or 0) + (floor(flags / GIVES_BACK) % 2) * GIVES_BACK + (part % IN_OPEN) * HAS_USD
end

-- The ledger of what is IN_USD or IN_TOKENS of a subject.
local function ledger_of(subject, part)
  return load_ledger(subject .. (part == IN_USD and 'u' or 't'))
end

local function pack_open(flags, at, usd, tokens, id)
  return spack(OPEN, flags, at, usd, tokens) .. id
end

local function load_record(key)
  local raw = must(pcall_redis('GET', key), key)
  if not raw then
    return nil
  end
  if #raw < RECORD_SIZE then
    corrupt(key, 'not the record of a hold')
  end
  local status, flags, print, at, expires, usd, tokens, calls, count = sunpack(RECORD, raw)
  local size = RECORD_SIZE + count * PART_SIZE
  if #raw < size + (status == ACTIVE and 0 or CLOSING_SIZE) then
    corrupt(key, 'too short for its parts')
  end
  local record = {
    key = key, status = status, flags = flags, print = print, at = at, expires = expires, usd = usd, tokens = tokens, calls = calls,
    count = count, parts = { sunpack('>' .. srep('BI4I4', count), raw, RECORD_SIZE + 1) },
    was = false, closing = false, booked_usd = false, booked_tokens = false, memo = '',
  }
  if record.status ~= ACTIVE then
    local position = size + 1
    local known
    record.was, record.status, record.closing, record.booked_usd, record.booked_tokens, known = sunpack(CLOSING, raw, position)
    record.memo = ssub(raw, position + CLOSING_SIZE)
    return known > clock and record or nil
  elseif record.expires <= clock then
    record.status = EXPIRED
  end
  return record.expires + KEEP_ANSWERS > clock and record or nil
end

local function pack_record(status, record)
  return spack(RECORD, status, record.flags, record.print, record.at, record.expires, record.usd, record.tokens,
    record.calls, record.count) .. spack('>' .. srep('BI4I4', record.count), unpack(record.parts, 1, record.count * PART_FIELDS))
end

-- How long a record is kept, in milliseconds.
local function record_life(expires)
  return sformat('%d', math.ceil((max(expires, clock) - clock + KEEP_ANSWERS) / 1000))
end

-- The hold's admission, lease and amounts, and what stands in `record` behind it.
local function hold_state(status, again, record, queued, ahead)
  return spack('>BBI7I7I7I7BI4', status, again and 1 or 0, record and record.at or 0, record and record.expires or 0,
    record and record.usd or 0, record and record.tokens or 0, queued and 1 or 0, ahead or 0)
end

-- What this script knows of a subject's open holds: whether the leases that are over are booked, slots in use, when the first of
-- their leases ends, and whether anybody waits.
local known = {}

-- How many leases this script call has found over of holds at the subject without an ID, in which all that are limited as a whole have
-- a part: so each is counted once. And the nano-USD that those leave charged there. Both stand behind the answers, if there are any.
local leases_over, usd_over = 0, 0

-- Takes an ended hold's amount of one unit out of a ledger: it is no longer held, and where the hold says so no longer used.
local function end_amount(ledger, at, amount, gives)
  if at <= ledger.born then
    return
  end
  if gives then
    local index, time, had = find_taken(ledger, at)
    if index then
      change_entry(ledger, index, time, had, -amount)
    end
  end
  ledger.held = max(0, ledger.held - amount)
  touch(ledger)
end

-- Books the end of the leases that are over, and returns what is known of the subject.
local function end_leases(subject)
  local it = known[subject]
  if it then
    return it
  end
  local key = subject .. 'h'
  for _ = 1, MOST_ENDED / 64 do
    local ended = must(pcall_redis('ZRANGEBYSCORE', key, before_text, now_text, 'LIMIT', '0', '64'), key)
    local money, counted = false, false
    for i = 1, #ended do -- all that can fail comes before the first write
      local flags = sbyte(ended[i])
      money = money or floor(flags / HAS_USD) % 2 == 1 and ledger_of(subject, IN_USD)
      counted = counted or floor(flags / HAS_TOKENS) % 2 == 1 and ledger_of(subject, IN_TOKENS)
    end
    if #ended > 0 then
      call('ZREM', key, unpack(ended))
      leases_over = leases_over + (ssub(subject, -3) == NO_ID and #ended or 0)
    end
    for i = 1, #ended do
      local flags, at, usd, tokens = sunpack(OPEN, ended[i])
      local gives = floor(flags / GIVES_BACK) % 2 == 1
      if floor(flags / HAS_USD) % 2 == 1 then
        end_amount(money, at, usd, gives)
        usd_over = usd_over + ((gives or ssub(subject, -3) ~= NO_ID) and 0 or usd)
      end
      if floor(flags / HAS_TOKENS) % 2 == 1 then
        end_amount(counted, at, tokens, gives)
      end
    end
    if #ended < 64 then
      break
    end
  end
  it = { key = key, used = false, first = false, line = false, lives = false }
  known[subject] = it
  return it
end

-- How many slots of a subject are in use, and how long until the first of their leases ends; 0 if none is.
local function slots_in_use(it)
  if not it.used then
    it.used = call('ZCOUNT', it.key, after_text, '+inf')
    local found = it.used > 0 and call('ZRANGEBYSCORE', it.key, after_text, '+inf', 'WITHSCORES', 'LIMIT', '0', '1')
    it.first = found and tonumber(found[2]) - clock or 0
  end
  return it.used, it.first
end

-- Keeps a hold among the open ones. `retain` is how long the subject's ledgers keep it.
local function open_hold(it, hold, slot, expires, retain)
  call('ZADD', it.key, sformat('%.0f', slot and expires or -expires), hold)
  local life = open_life(retain)
  if not it.lives or it.lives < life then
    it.lives = life
    call('PEXPIRE', it.key, sformat('%d', life / 1000))
  end
end

-- Whether anybody waits for a slot of a subject.
local function has_line(subject, it)
  if not it.line then
    it.line = call('EXISTS', subject .. 'v')
  end
  return it.line == 1
end

-- How many waiters stand before this id.
local function waiters_before(subject, id)
  local line, alive = subject .. 'w', subject .. 'v'
  local gone = must(pcall_redis('ZRANGEBYSCORE', alive, '-inf', now_text), alive)
  for i = 1, #gone do
    call('ZREM', alive, gone[i])
    call('ZREM', line, gone[i])
  end
  return call('ZRANK', line, id) or call('ZCARD', line)
end

local function join_line(subject, it, id)
  local line, alive, life = subject .. 'w', subject .. 'v', sformat('%d', 2 * WAITER_LIFE / 1000)
  local last = call('ZRANGE', line, '-1', '-1', 'WITHSCORES')[2]
  call('ZADD', line, 'NX', sformat('%.0f', max(clock, (last or 0) + 1)), id)
  call('ZADD', alive, sformat('%.0f', clock + WAITER_LIFE), id)
  call('PEXPIRE', line, life)
  call('PEXPIRE', alive, life)
  it.line = 1
end

local function leave_line(subject, id)
  call('ZREM', subject .. 'w', id)
  call('ZREM', subject .. 'v', id)
end

-- How long until a lease or more ends, so that `missing` slots are free.
local function slot_wait(it, missing)
  local found = call('ZRANGEBYSCORE', it.key, after_text, '+inf', 'WITHSCORES', 'LIMIT', sformat('%d', missing - 1), '1')
  return found[2] and tonumber(found[2]) - clock or NEVER
end

-- The answers of all requests, and behind them how many leases were found over and what they leave charged, if any were.
local function with_leases_over(answers)
  if leases_over > 0 then
    answers[#answers + 1] = sformat('%d %.0f', leases_over, usd_over)
  end
  return answers
end
