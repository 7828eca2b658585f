-- What both scripts begin with: the time, and what it means for an account that it is another day, or that the clock was put
-- back (`Account::roll` in `limits.rs`). KEYS: the account (hash), its leases (sorted set). ARGV[1]: now in
-- microseconds (0: this server's clock).
local WINDOW, DAY, KEEP = 60000000, 86400000000, 172800
local function whole(number) return string.format('%.0f', number) end
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local kept = redis.call('HMGET', KEYS[1], 'seen', 'day')
local back, today = tonumber(kept[1] or 0) - now, math.floor(now / DAY)
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
if tonumber(kept[2] or 0) ~= today then
  redis.call('HSET', KEYS[1], 'day', whole(today), 'day_tokens', 0, 'day_money', 0)
end
redis.call('HSET', KEYS[1], 'seen', whole(now))
redis.call('EXPIRE', KEYS[1], KEEP)

