-- The classic sliding-window limiter, kept as the reference of the benchmark: one sorted set per window, whose members
-- are hits and whose scores are their times in microseconds.
--
-- KEYS    one sorted set per window
-- ARGV[1] a nonce, which with the time makes a member that no other hit has, over any number of sidecars; then, per
--         window, its limit and its period in microseconds
-- returns 1 and the hits of each window if all windows have room, and the hit is in all of them; else 0 and the hits,
--         and nothing was added
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member = string.format('%s%06d-%s', time[1], time[2], ARGV[1])
local answer = {1}
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[2 * i + 1]))
  local used = redis.call('ZCARD', key)
  answer[i + 1] = used
  if used >= tonumber(ARGV[2 * i]) then
    answer[1] = 0
  end
end
if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, now, member)
    redis.call('PEXPIRE', key, ARGV[2 * i + 1] / 1000)
  end
end
return answer
