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
  local newest = search(log, 0, log.n, 1, at + 1) - 1
  local oldest = search(log, 0, log.n, 1, log.now - log.retain + 1)
  if newest < oldest or amount == 0 then
    return pieces, 0
  end
  local raw = read_entries(log, oldest, log.n)
  local times, sums = {}, {}
  local position = 1
  for i = oldest, log.n - 1 do
    times[i], sums[i], position = sunpack(ENTRY, raw, position)
  end
  local before = log.origin
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
  for j = changed, log.n - 1 do
    less = less + (give[j] or 0)
    out[#out + 1] = spack(ENTRY, times[j], sums[j] - less)
  end
  call('SETRANGE', log.key, HEAD_SIZE + log.slots * WINDOW_SIZE + changed * ENTRY_SIZE, table.concat(out))
  log.total = log.total - taken
  log.dirty = true
  return pieces, taken
end

local function settle_windows(log)
  local w = log.w
  for p = 1, log.k * WINDOW_FIELDS, WINDOW_FIELDS do
    w[p + 2], w[p + 3], w[p + 4] = locate(log, w[p])
    if w[p + 3] == 0 then
      advance(log, p)
    end
  end
end

local flags, count = sunpack('>BB', ARGV[2])
local d = { sunpack(checks_format(count), ARGV[2], 3) }

local function refund()
  local logs, stale = {}, {}
  for c = 1, count do
    local f = (c - 1) * CHECK_FIELDS
    logs[c] = load_log(KEYS[d[f + 1]], clock)
    if flags ~= UNDO then
      stale[#stale + 1] = stale_check(logs[c], c, d[f + 4])
    end
  end
  if #stale > 0 then
    return 0, stale_answer(stale)
  end
  for c = 1, count do
    track(logs[c], specs[d[c * CHECK_FIELDS - 2]])
    read_entries(logs[c], 0, logs[c].n) -- all that can fail fails before the first write
  end
  local given, pieces, undo = 0, {}, flags == UNDO
  if ARGV[3] == '' then
    pieces, given = take(logs[1], NEVER - 1, d[CHECK_FIELDS - 1])
    for c = 2, count do
      local left = d[c * CHECK_FIELDS - 1]
      for _, piece in ipairs(pieces) do
        local _, taken = take(logs[c], piece[1], min(piece[2], left))
        left = left - taken
      end
    end
  elseif not undo or call('SET', KEYS[#KEYS], '', 'NX', 'PX', MARK_LIFETIME) then
    local left = d[CHECK_FIELDS - 1]
    for position = 1, #ARGV[3], ENTRY_SIZE do
      local at, amount = sunpack(ENTRY, ARGV[3], position)
      local _, taken = take(logs[1], at, min(amount, left))
      given, left = given + taken, left - taken
    end
  end
  local answer, fits = '', true
  for c = 1, count do
    local log, spec, values = logs[c], specs[d[c * CHECK_FIELDS - 2]], {}
    if log.dirty then
      settle_windows(log)
      call('SETRANGE', log.key, 0, pack_header(log))
    end
    local need = undo and d[c * CHECK_FIELDS - 1] or 1
    for s = 1, spec.k * 4, 4 do
      local p = (s - 1) / 4 * WINDOW_FIELDS + 1
      local excess = log.total - log.w[p + 4] + need - spec[s + 1]
      local wait = 0
      if excess > 0 then
        wait = need > spec[s + 1] and NEVER or wait_for(log, p, excess, clock)
        fits = fits and spec[s + 3] == 0
      end
      values[5 + (s - 1) / 4 * STATE_FIELDS] = wait
    end
    answer = answer .. pack_states(log, spec, values, clock)
  end
  return given, spack('>BI7', fits and ADMITTED or DENIED, clock) .. answer, pieces
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
