-- Decides many requests in one step, each by itself and in order.
--
-- KEYS: the logs. ARGV[1]: the specs, one after another. ARGV[2..]: a request each: '>BB' flags and number of checks, then
-- the checks. Returns one answer per request: '>B' verdict, '>I7' clock, then each check's states.

local DRY = 1 -- flag: answer only, take nothing

local clock = read_clock()
local specs = parse_specs(ARGV[1])
local logs, dirty = {}, {}
local values, of, at = {}, {}, {} -- scratch of one decision: states, log and spec of each check

local function open_log(key)
  local log = logs[key]
  if not log then
    log = load_log(key, clock)
    logs[key] = log
  end
  return log
end

-- Fills the waits of one check into v and says whether every enforced limit has room.
local function evaluate(log, spec, amount, v)
  local w, need, fits = log.w, max(amount, 1), true
  local p, at_wait = 1, 5
  for s = 1, spec.k * 4, 4 do
    local limit, used = spec[s + 1], log.total - w[p + 4]
    local excess, wait = used + need - limit, 0
    if excess > 0 then
      wait = need > limit and NEVER or wait_for(log, p, excess, clock)
      if spec[s + 3] == 1 then
        fits = false
      end
    elseif used + amount > NEVER / 2 then
      fits = false
    end
    v[at_wait] = wait
    p, at_wait = p + WINDOW_FIELDS, at_wait + STATE_FIELDS
  end
  return fits
end

local function decide(raw)
  local flags, count = sunpack('>BB', raw)
  local d = { sunpack(checks_format(count), raw, 3) }
  local stale
  for c = 1, count do
    local f = (c - 1) * CHECK_FIELDS
    local log, spec = open_log(KEYS[d[f + 1]]), specs[d[f + 2]]
    of[c], at[c] = log, spec
    local changed = stale_check(log, c, d[f + 4])
    if changed then
      stale = stale or {}
      stale[#stale + 1] = changed
    end
  end
  if stale then
    return stale_answer(stale)
  end
  local admitted, takes = true, flags ~= DRY
  for c = 1, count do
    track(of[c], at[c])
    values[c] = values[c] or {}
    admitted = evaluate(of[c], at[c], d[c * CHECK_FIELDS - 1], values[c]) and admitted
  end
  if admitted and takes then
    for c = 1, count do
      if d[c * CHECK_FIELDS - 1] > 0 then
        prepare(of[c])
      end
    end
    for c = 1, count do
      local log, amount = of[c], d[c * CHECK_FIELDS - 1]
      if amount > 0 then
        if not log.dirty then
          dirty[#dirty + 1] = log
        end
        append(log, at[c], amount)
      end
    end
  end
  local answer = spack('>BI7', admitted and ADMITTED or DENIED, clock)
  for c = 1, count do
    answer = answer .. pack_states(of[c], at[c], values[c], clock)
  end
  return answer
end

local answers = {}
for i = 2, arguments do
  local good, answer = pcall(decide, ARGV[i])
  answers[i - 1] = good and answer or failure(answer)
end
for i = 1, #dirty do
  write_log(dirty[i])
end
return answers
