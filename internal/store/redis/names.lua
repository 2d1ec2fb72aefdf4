-- What all scripts use of Lua and of Redis.
local floor, max, min = math.floor, math.max, math.min
local spack, sunpack, ssub, srep, sbyte, sformat = struct.pack, struct.unpack, string.sub, string.rep, string.byte, string.format
local call, pcall_redis, unpack = redis.call, redis.pcall, unpack
local KEYS, ARGV = KEYS, ARGV
