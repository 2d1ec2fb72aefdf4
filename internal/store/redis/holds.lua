-- Open holds and their records, as the scripts of holds read and write them.
--
--   <subject>h        a sorted set of the subject's open holds: '>BI7I7I7' flags, admission, nano-USD, tokens; and the id. The score is
--                     when the lease ends, for a hold without a slot less than 0: so slots in use are those with a score above now.
--                     Away from the hold's first subject its key stands before the id: ids of two subjects may be the same
--   <subject>h:<id>   the hold's record, at the first of the subjects that one script call decides on: '>BBc8I7I7I7I7I2B' status, flags,
--                     fingerprint, admission, end of the lease, nano-USD, tokens, how many calls have found it on a Cluster, number
--                     of subjects; '>B' of each: its part in the hold; and once it is closed '>BBc8I7I7I7' what it was before, status, fingerprint of the settlement, nano-USD
--                     and tokens booked, until when this is known; then the memo
--   <subject>w, ...v  sorted sets of who waits for a slot: ids by when they came, and by when their place is lost
--
-- An open hold's status is that of its lease: nothing is written when it ends.

local SLOT, GIVES_BACK = 1, 2 -- flags of a hold
local IN_USD, IN_TOKENS, IN_OPEN = 1, 2, 4 -- a subject's part in a hold
local NO_HOLD, ACTIVE, CLOSED, RELEASED, EXPIRED = 0, 1, 2, 3, 4
local OPEN, OPEN_SIZE = '>BI7I7I7', 22
local RECORD, RECORD_SIZE = '>BBc8I7I7I7I7I2B', 41
local CLOSING, CLOSING_SIZE = '>BBc8I7I7I7', 31
local KEEP_ANSWERS = 86400000000
local LONGEST_LEASE = 3600000000
local WAITER_LIFE = 3000000
local MOST_ENDED = 1024 -- leases whose end one decision books for a subject
local MISMATCH, UNKNOWN = 8, 9 -- verdicts beside those of log.lua

-- The id of a hold among the holds of any of its subjects.
local function id_at(subject, first, id)
  return subject == first and id or first .. id
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
  local record = { key = key }
  local count
  record.status, record.flags, record.print, record.at, record.expires, record.usd, record.tokens, record.calls,
    count = sunpack(RECORD, raw)
  if #raw < RECORD_SIZE + count + (record.status == ACTIVE and 0 or CLOSING_SIZE) then
    corrupt(key, 'too short for its parts')
  end
  record.parts = { sbyte(raw, RECORD_SIZE + 1, RECORD_SIZE + count) }
  if record.status ~= ACTIVE then
    local position = RECORD_SIZE + count + 1
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
    record.calls, #record.parts)
    .. string.char(unpack(record.parts))
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

-- Books the end of leases that are over: their amounts are no longer held, and where the hold says so no longer used.
local function end_leases(subject)
  local key = subject .. 'h'
  for _ = 1, MOST_ENDED / 64 do
    local ended = must(pcall_redis('ZRANGEBYSCORE', key, sformat('%.0f', -clock), sformat('%.0f', clock), 'LIMIT', '0', '64'), key)
    for i = 1, #ended do
      local flags, at, usd, tokens = sunpack(OPEN, ended[i])
      local gives = floor(flags / GIVES_BACK) % 2 == 1
      local changes = {}
      for _, amount in ipairs({ { 'u', usd, 4 }, { 't', tokens, 8 } }) do
        if floor(flags / amount[3]) % 2 == 1 then
          local ledger = load_ledger(subject .. amount[1])
          if at > ledger.dropped then
            local change = { ledger, amount[2], ledger.held }
            if gives then
              change[4], change[5], change[6] = find_taken(ledger, at)
            end
            changes[#changes + 1] = change
          end
        end
      end
      call('ZREM', key, ended[i])
      for _, change in ipairs(changes) do
        local ledger, amount = change[1], change[2]
        ledger.held = max(0, ledger.held - amount)
        if change[4] then
          change_entry(ledger, change[4], change[5], change[6], -amount)
        end
        touch(ledger)
      end
    end
    if #ended < 64 then
      return
    end
  end
end

-- A subject's slots: how many are in use, and how many waiters stand before this id.
local function slots_in_use(subject)
  return must(pcall_redis('ZCOUNT', subject .. 'h', sformat('(%.0f', clock), '+inf'), subject .. 'h')
end

local function waiters_before(subject, id)
  local line, alive = subject .. 'w', subject .. 'v'
  if call('EXISTS', alive) == 0 then
    return 0
  end
  local gone = must(pcall_redis('ZRANGEBYSCORE', alive, '-inf', sformat('%.0f', clock)), alive)
  for i = 1, #gone do
    call('ZREM', alive, gone[i])
    call('ZREM', line, gone[i])
  end
  return call('ZRANK', line, id) or call('ZCARD', line)
end

local function join_line(subject, id)
  local line, alive, life = subject .. 'w', subject .. 'v', sformat('%d', 2 * WAITER_LIFE / 1000)
  local last = call('ZRANGE', line, '-1', '-1', 'WITHSCORES')[2]
  call('ZADD', line, 'NX', sformat('%.0f', max(clock, (last or 0) + 1)), id)
  call('ZADD', alive, sformat('%.0f', clock + WAITER_LIFE), id)
  call('PEXPIRE', line, life)
  call('PEXPIRE', alive, life)
end

local function leave_line(subject, id)
  call('ZREM', subject .. 'w', id)
  call('ZREM', subject .. 'v', id)
end

-- How long until a lease or more ends, so that `missing` slots are free.
local function slot_wait(subject, missing)
  local found = call('ZRANGEBYSCORE', subject .. 'h', sformat('(%.0f', clock), '+inf', 'WITHSCORES', 'LIMIT',
    sformat('%d', missing - 1), '1')
  return found[2] and tonumber(found[2]) - clock or NEVER
end
