-- Sets or removes a subject's override.
--
-- KEYS[1]: the override. KEYS[2..]: the subject's logs, whose headers carry its version. ARGV: value ('' removes), channel,
-- what to say on it. Returns the new version, 0 when there is none.

local version = 0
if ARGV[1] ~= '' then
  local old = redis.call('GET', KEYS[1])
  version = read_clock()
  if old and #old >= 7 then
    version = max(version, sunpack('>I7', old) + 1)
  end
end
for i = 2, #KEYS do
  local first = redis.pcall('GETRANGE', KEYS[i], 0, 0)
  if first == string.char(VERSION) or first == string.char(2) then -- a log or a ledger: the version stands at one place in both
    redis.call('SETRANGE', KEYS[i], 3, spack('>I7', version))
  end
end
if version == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], spack('>I7', version) .. ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return string.format('%.0f', version)
