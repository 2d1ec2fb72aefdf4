-- Decides many requests in one step, each by itself and in order.
--
-- KEYS: the logs. ARGV[1]: the specs. ARGV[2]: the requests, one after another. Returns one answer per request.

local DRY = 1 -- flag: answer only, take nothing

local clock = read_clock()
local specs = parse_specs(ARGV[1])
local requests = ARGV[2]
local logs, dirty, renewed = {}, {}, {}
-- Scratch of one decision: the answer, the waits, and of each check its log, spec, amount and place in the answer.
local values, waits, of, by, amounts, places = {}, {}, {}, {}, {}, {}

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
  local admitted, late, format, at, w = true, false, '>BI7', 2, 0
  for c = 1, count do
    local spec, amount = by[c], amounts[c]
    local fits, short = look(of[c], spec, amount > 0 and amount or 1, values, at, waits, w, clock)
    admitted, late = admitted and fits, late or short
    if renew(of[c], spec) then
      renewed[#renewed + 1] = of[c]
    end
    places[c], format, at, w = at, format .. spec.states, at + 2 + spec.k * 2, w + spec.k
  end
  if admitted and flags ~= DRY then
    for c = 1, count do
      if amounts[c] > 0 then
        prepare(of[c])
      end
    end
    for c = 1, count do
      local log, amount = of[c], amounts[c]
      if amount > 0 then
        append(log, by[c], amount, values, places[c], clock)
        if not log[DIRTY] then
          log[DIRTY] = true
          dirty[#dirty + 1] = log
        end
      end
    end
  end
  local verdict = admitted and ADMITTED or DENIED
  values[2] = clock
  if late then
    verdict, format = verdict + WAITS, format .. srep('I7', w)
    for i = 1, w do
      values[at + i] = waits[i]
    end
    at = at + w
  end
  values[1] = verdict
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
  logs, dirty, renewed, answers = {}, {}, {}, {}
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
write_logs(dirty, renewed, clock)
return answers
