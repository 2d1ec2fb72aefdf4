-- Decides many requests in one step, each by itself and in order.
--
-- KEYS: the logs. ARGV[1]: the specs. ARGV[2]: the requests, one after another. Returns one answer per request: '>B' verdict,
-- '>I7' clock, then each check's states.

local DRY = 1 -- flag: answer only, take nothing

local clock = read_clock()
local specs = parse_specs(ARGV[1])
local requests = ARGV[2]
local logs, dirty = {}, {}
local values, of, by, amounts = {}, {}, {}, {} -- scratch of one decision: the answer; log, spec and amount of each check

-- Puts the waits of one check into values behind `at` and says whether every enforced limit has room.
local function evaluate(log, spec, amount, at)
  local need, fits, total, p = amount > 0 and amount or 1, true, log[TOTAL], FIRST
  at = at + WAIT_AT
  for s = 1, spec.last, 4 do
    local after = total - log[p + 2] + need
    local limit = spec[s + 1]
    if after > limit then
      values[at] = need > limit and NEVER or wait_for(log, p, spec[s], after - limit, clock)
      fits = fits and spec[s + 3] == 0 and after <= NEVER / 2
    else
      values[at] = 0
    end
    p, at = p + WINDOW_FIELDS, at + STATE_FIELDS
  end
  return fits
end

-- Decides the request at `position`; returns the answer and the position behind it.
local function decide(position)
  local flags, count = sbyte(requests, position, position + 1)
  position = position + 2
  local stale
  for c = 1, count do
    local key, spec, amount, override
    key, spec, amount, override, position = sunpack(CHECK, requests, position)
    local name = KEYS[key]
    local log = logs[name]
    if not log then
      log = load_log(name, clock)
      logs[name] = log
    end
    of[c], by[c], amounts[c] = log, specs[spec], amount
    if log[OVERRIDE] ~= override then
      stale = stale or {}
      stale[#stale + 1] = stale_check(log, c, override)
    end
  end
  if stale then
    return stale_answer(stale), position
  end
  local admitted, format, at = true, '>BI7', 2
  for c = 1, count do
    local log, spec = of[c], by[c]
    track(log, spec)
    admitted = evaluate(log, spec, amounts[c], at) and admitted
    format, at = format .. spec.states, at + 2 + spec.k * STATE_FIELDS
  end
  if admitted and flags ~= DRY then
    for c = 1, count do
      if amounts[c] > 0 then
        prepare(of[c])
      end
    end
    for c = 1, count do
      local log = of[c]
      if amounts[c] > 0 then
        append(log, by[c], amounts[c])
        if not log[DIRTY] then
          log[DIRTY] = true
          dirty[#dirty + 1] = log
        end
      end
    end
  end
  values[1], values[2] = admitted and ADMITTED or DENIED, clock
  at = 2
  for c = 1, count do
    at = put_states(of[c], by[c], values, at, clock)
  end
  return spack(format, unpack(values, 1, at)), position
end

local answers = {}

local function decide_all()
  local position, size = 1, #requests
  while position <= size do
    answers[#answers + 1], position = decide(position)
  end
end

-- One bad log answers for its own requests alone: all is decided anew then, each request on guard.
local function decide_each()
  logs, dirty, answers = {}, {}, {}
  local position, size = 1, #requests
  while position <= size do
    local good, answer = pcall(decide, position)
    answers[#answers + 1] = good and answer or failure(answer)
    position = position + 2 + sbyte(requests, position + 1) * CHECK_SIZE
  end
end

if not pcall(decide_all) then
  decide_each()
end
for i = 1, #dirty do
  write_log(dirty[i])
end
return answers
