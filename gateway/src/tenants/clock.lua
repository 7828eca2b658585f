-- What both scripts begin with: the time, and what a clock that was put back means for an account (`Account::roll` in
-- `limits.rs`). KEYS: the account (hash), its leases (sorted set). ARGV[1]: now in microseconds (0: this server's clock).
local WINDOW, DAY, KEEP = 60000000, 86400000000, 172800
local function whole(number) return string.format('%.0f', number) end
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local back = tonumber(redis.call('HGET', KEYS[1], 'seen') or 0) - now
if back > 0 then
  -- Nobody must be kept out until it is where it was.
  for _, name in ipairs({ 'requests', 'tokens' }) do
    local due = tonumber(redis.call('HGET', KEYS[1], name) or 0)
    redis.call('HSET', KEYS[1], name, whole(math.max(due - back, 0)))
  end
  local leases = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
  for at = 1, #leases, 2 do
    redis.call('ZADD', KEYS[2], whole(math.max(tonumber(leases[at + 1]) - back, 0)), leases[at])
  end
end
redis.call('HSET', KEYS[1], 'seen', whole(now))
redis.call('EXPIRE', KEYS[1], KEEP)

