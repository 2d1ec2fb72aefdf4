-- Gives hits back.
--
-- KEYS: the logs, and for an undo its mark. ARGV[1]: the specs. ARGV[2]: '>BB' flags and number of checks, then the checks.
-- ARGV[3]: '>I7I7' time and amount of each piece that the one check is to give back; empty to take up to the first check's
-- amount from its newest hits, and the same pieces from the others. ARGV[4]: the channel, ARGV[5]...: what to say on it once
-- something has been given back. Returns what the first check gave back, an answer as admit's, and the first check's pieces.

local UNDO = 2 -- flag: at most once under the mark, and answered for the whole amount as the undone call was

local MARK_LIFETIME = 60000 -- ms that a repeated undo is known for one
local RECENT = 64 -- what is given back is mostly among so many newest entries: they are read first

local clock = read_clock()
local specs = parse_specs(ARGV[1])

-- Plans what to take back from the entries [low, n): of each piece {time, amount}, the newest first, its amount from the
-- newest live hits at or before its time, and no more than `most` in all. Returns a plan, or nil when the entries from low on
-- do not suffice: entries that were there, how much to take of each, the pieces taken, and their sum.
local function plan(log, wanted, most, low, oldest, quantum)
  local n, before = log[N], log[ORIGIN]
  if low > 0 then
    local _
    _, before = sunpack(ENTRY, read_entries(log, low - 1, low))
  end
  local raw, position = read_entries(log, low, n), 1
  local times, sums = {}, { [low - 1] = before }
  for i = low, n - 1 do
    times[i], sums[i], position = sunpack(ENTRY, raw, position)
  end
  local give, pieces, taken, i = {}, {}, 0, n - 1
  for _, piece in ipairs(wanted) do
    local at, left = piece[1], min(piece[2], most - taken)
    while i >= low and times[i] > at do
      i = i - 1
    end
    -- An entry of a sub-window is dated at its latest hit: one that was merged with later ones is found in the next entry.
    local found = i >= low and times[i] == at or i < low and low > oldest
    if quantum > 0 and not found and i < n - 1 and floor(times[i + 1] / quantum) == floor(at / quantum) then
      i = i + 1
    end
    while i >= low and left > 0 do
      local part = min(sums[i] - sums[i - 1] - (give[i] or 0), left)
      if part > 0 then
        give[i] = (give[i] or 0) + part
        pieces[#pieces + 1] = { times[i], part }
        taken, left = taken + part, left - part
      end
      if left > 0 then
        i = i - 1
      end
    end
    if left > 0 and low > oldest then
      return nil
    end
  end
  return { times = times, sums = sums, give = give, pieces = pieces, taken = taken }
end

-- Takes the wanted pieces back. Returns the pieces taken and their sum. Only entries and total are changed here; the windows
-- are found again by settle_windows.
local function take(log, spec, wanted, most)
  local n = log[N]
  local oldest = search(log, 0, n, 1, log[NOW] - log[RETAIN] + 1)
  local low = max(oldest, n - RECENT)
  local quantum = spec.quantum > 0 and quantum_of(log, spec) or 0
  local p = plan(log, wanted, most, low, oldest, quantum)
  if not p then
    low = oldest
    p = plan(log, wanted, most, low, oldest, quantum)
  end
  if p.taken == 0 then
    return p.pieces, 0
  end
  local out, less, changed = {}, 0, nil
  for i = low, n - 1 do
    local part = p.give[i]
    if part then
      changed, less = changed or i, less + part
    end
    if changed then
      out[#out + 1] = spack(ENTRY, p.times[i], p.sums[i] - less)
    end
  end
  call('SETRANGE', log[KEY], head_size(log[SLOTS]) + changed * ENTRY_SIZE, table.concat(out))
  log[TOTAL], log[DIRTY] = log[TOTAL] - p.taken, true
  return p.pieces, p.taken
end

local function settle_windows(log)
  for i = 1, log[K] do
    local p, period = FIRST + (i - 1) * WINDOW_FIELDS, shape(log, i)
    log[p], log[p + 1], log[p + 2], log[p + 3], log[p + 4] = unpack(locate(log, period))
    if log[p + 1] == 0 then
      advance(log, p, period)
    end
  end
end

local flags, count = sbyte(ARGV[2], 1, 2)
local undo = flags == UNDO
local key_of, spec_of, amounts, overrides = {}, {}, {}, {}
for c = 1, count do
  key_of[c], spec_of[c], amounts[c], overrides[c] = sunpack(CHECK, ARGV[2], 3 + (c - 1) * CHECK_SIZE)
end

local function refund()
  local _
  local logs, stale = {}, {}
  for c = 1, count do
    logs[c] = load_log(KEYS[key_of[c]], clock)
    if not undo then
      stale[#stale + 1] = stale_check(logs[c], c, overrides[c])
    end
  end
  if #stale > 0 then
    return 0, stale_answer(stale)
  end
  for c = 1, count do
    look(logs[c], specs[spec_of[c]], 1, {}, 0, {}, 0, clock)
    read_entries(logs[c], 0, logs[c][N]) -- all that can fail fails before the first write
  end
  local given, pieces = 0, {}
  if ARGV[3] == '' then
    pieces, given = take(logs[1], specs[spec_of[1]], { { NEVER, amounts[1] } }, amounts[1])
    for c = 2, count do
      take(logs[c], specs[spec_of[c]], pieces, amounts[c])
    end
  elseif not undo or call('SET', KEYS[#KEYS], '', 'NX', 'PX', MARK_LIFETIME) then
    local wanted = {}
    for position = 1, #ARGV[3], ENTRY_SIZE do
      wanted[#wanted + 1] = { sunpack(ENTRY, ARGV[3], position) }
    end
    _, given = take(logs[1], specs[spec_of[1]], wanted, amounts[1])
  end
  local fits, values, waits, format, at, w = true, {}, {}, '>BI7', 2, 0
  for c = 1, count do
    local log, spec = logs[c], specs[spec_of[c]]
    if log[DIRTY] then
      settle_windows(log)
    end
    fits = look(log, spec, undo and max(amounts[c], 1) or 1, values, at, waits, w, clock) and fits
    if log[DIRTY] then
      call('SETRANGE', log[KEY], '0', pack_head(log))
    end
    format, at, w = format .. spec.states, at + 2 + spec.k * 2, w + spec.k
  end
  values[1], values[2] = (fits and ADMITTED or DENIED) + WAITS, clock
  for i = 1, w do
    values[at + i] = waits[i]
  end
  return given, spack(format .. srep('I7', w), unpack(values, 1, at + w)), pieces
end

local good, given, answer, pieces = pcall(refund)
if not good then
  return { '0', failure(given), '' }
end
if given > 0 then
  for i = 5, arguments do
    call('PUBLISH', ARGV[4], ARGV[i])
  end
end
local packed = {}
for i, piece in ipairs(pieces or {}) do
  packed[i] = spack(ENTRY, piece[1], piece[2])
end
return { string.format('%.0f', given), answer, table.concat(packed) }
