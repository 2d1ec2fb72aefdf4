-- Gives hits back.
--
-- KEYS: the logs, and for an undo its mark. ARGV[1]: the specs. ARGV[2]: '>BB' flags and number of checks, then the checks.
-- ARGV[3]: '>I7I7' time and amount of each piece that the one check is to give back; empty to take up to the first check's
-- amount from its newest hits, and the same pieces from the others. ARGV[4]: the channel, ARGV[5]...: what to say on it once
-- something has been given back. Returns what the first check gave back, an answer as admit's, and the first check's pieces.

local UNDO = 2 -- flag: at most once under the mark, and answered for the whole amount as the undone call was

local MARK_LIFETIME = 60000 -- ms that a repeated undo is known for one

local clock = read_clock()
local specs = parse_specs(ARGV[1])

-- Takes up to `amount` back from the newest live entries at or before `at`. Returns the pieces taken, {time, amount} each, and
-- their sum. Only entries and total are changed here; the windows are found again by settle_windows.
local function take(log, at, amount)
  local pieces, taken = {}, 0
  local newest = search(log, 0, log[N], 1, at + 1) - 1
  local oldest = search(log, 0, log[N], 1, log[NOW] - log[RETAIN] + 1)
  if newest < oldest or amount == 0 then
    return pieces, 0
  end
  local raw = read_entries(log, oldest, log[N])
  local times, sums = {}, {}
  local position = 1
  for i = oldest, log[N] - 1 do
    times[i], sums[i], position = sunpack(ENTRY, raw, position)
  end
  local before = log[ORIGIN]
  if oldest > 0 then
    local _
    _, before = sunpack(ENTRY, read_entries(log, oldest - 1, oldest))
  end
  sums[oldest - 1] = before
  local changed, i = newest, newest
  local give = {}
  while i >= oldest and taken < amount do
    local piece = min(sums[i] - sums[i - 1], amount - taken)
    if piece > 0 then
      give[i] = piece
      taken, changed = taken + piece, i
      pieces[#pieces + 1] = { times[i], piece }
    end
    i = i - 1
  end
  if taken == 0 then
    return pieces, 0
  end
  local out, less = {}, 0
  for j = changed, log[N] - 1 do
    less = less + (give[j] or 0)
    out[#out + 1] = spack(ENTRY, times[j], sums[j] - less)
  end
  call('SETRANGE', log[KEY], head_size(log[SLOTS]) + changed * ENTRY_SIZE, table.concat(out))
  log[TOTAL] = log[TOTAL] - taken
  log[DIRTY] = true
  return pieces, taken
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
    pieces, given = take(logs[1], NEVER - 1, amounts[1])
    for c = 2, count do
      local left = amounts[c]
      for _, piece in ipairs(pieces) do
        local _, taken = take(logs[c], piece[1], min(piece[2], left))
        left = left - taken
      end
    end
  elseif not undo or call('SET', KEYS[#KEYS], '', 'NX', 'PX', MARK_LIFETIME) then
    local left = amounts[1]
    for position = 1, #ARGV[3], ENTRY_SIZE do
      local at, amount = sunpack(ENTRY, ARGV[3], position)
      local _, taken = take(logs[1], at, min(amount, left))
      given, left = given + taken, left - taken
    end
  end
  local fits, values, waits, format, at, w = true, {}, {}, '>BI7', 2, 0
  for c = 1, count do
    local log, spec = logs[c], specs[spec_of[c]]
    if log[DIRTY] then
      settle_windows(log)
    end
    fits = look(log, spec, undo and max(amounts[c], 1) or 1, values, at, waits, w, clock) and fits
    if log[DIRTY] then
      -- Windows for which there is no room are found by search again.
      log[K] = min(log[K], log[SLOTS])
      log[SHAPES] = ssub(log[SHAPES], 1, log[K] * SHAPE_SIZE)
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
