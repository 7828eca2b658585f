-- Lets one request of a tenant in, or says what keeps it out: the arithmetic of `limits.rs`, in one step for all
-- replicas. Behind `clock.lua`. ARGV: now, tokens wanted, lease, its length, money wanted, then the limits. Returns: limit
-- (0: let in), wait, requests left, until all are back, tokens left, until all are back, day.
local BUSY = 1000000
local tokens, lease, lease_us = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local money, rpm, tpm, concurrent = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local day_tokens_max, day_money_max = tonumber(ARGV[9]), tonumber(ARGV[10])

local account = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'day', 'day_tokens', 'day_money')
local requests_due, tokens_due = tonumber(account[1] or 0), tonumber(account[2] or 0)
local day, day_tokens, day_money = tonumber(account[3] or 0), tonumber(account[4] or 0), tonumber(account[5] or 0)
-- Those that ran out count no more, but may still be settled for a day.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now - DAY))

local function step(amount, per_minute) return math.floor(amount * WINDOW / per_minute) end
local function wait(due, amount, per_minute)
  if per_minute == 0 or due <= now then return nil end
  local after = due - now + step(amount, per_minute)
  local most = math.max(step(amount, per_minute), WINDOW)
  if after > most then return after - most end
  return nil
end
local function refused()
  if concurrent > 0 and redis.call('ZCOUNT', KEYS[2], '(' .. whole(now), '+inf') >= concurrent then return 1, BUSY end
  local time = wait(requests_due, 1, rpm)
  if time then return 2, time end
  time = wait(tokens_due, tokens, tpm)
  if time then return 3, time end
  local back = (day + 1) * DAY - now
  if redis.call('ZCOUNT', KEYS[2], '(' .. whole(now), '+inf') > 0 then back = BUSY end
  if day_tokens_max > 0 and day_tokens >= day_tokens_max then return 4, back end
  if day_money_max > 0 and day_money >= day_money_max then return 5, back end
  return 0, 0
end

-- Asked again, since the answer was lost with its connection: it was let in.
local again = lease_us > 0 and redis.call('ZSCORE', KEYS[2], lease)
local limit, time = 0, 0
if not again then limit, time = refused() end
if limit == 0 and not again then
  if rpm > 0 then requests_due = math.max(requests_due, now) + step(1, rpm) end
  if tpm > 0 then tokens_due = math.max(tokens_due, now) + step(tokens, tpm) end
  day_tokens, day_money = day_tokens + tokens, day_money + money
  redis.call('HSET', KEYS[1], 'requests', whole(requests_due), 'tokens', whole(tokens_due), 'day', whole(day),
    'day_tokens', whole(day_tokens), 'day_money', whole(day_money))
  if lease_us > 0 then redis.call('ZADD', KEYS[2], whole(now + lease_us), lease) end
  redis.call('EXPIRE', KEYS[2], KEEP)
end
local function left(due, per_minute)
  local owed = math.max(due - now, 0)
  return math.floor(math.max(WINDOW - owed, 0) * per_minute / WINDOW), owed
end
local requests, requests_back = left(requests_due, rpm)
local tokens_left, tokens_back = left(tokens_due, tpm)
return { limit, whole(time), whole(requests), whole(requests_back), whole(tokens_left), whole(tokens_back), whole(day) }
