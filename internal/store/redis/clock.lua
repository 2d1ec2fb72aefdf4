-- The store's clock, in microseconds.
local arguments = #ARGV
local function read_clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
