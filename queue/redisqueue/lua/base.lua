-- Shared by all scripts. KEYS[1] is the room's control record, "{room}:c"; every other key of the room begins with the same
-- "{room}:" and so lives in the same slot. RUN is the run id of the one server process for which this text was made: on any
-- other process the script is unknown, so nothing runs there before its run id was read.
local RUN = '@RUN@'
local C = KEYS[1]
local P = string.sub(C, 1, -2)
local call = redis.call
local floor, max, min = math.floor, math.max, math.min
local pack, unpack8 = struct.pack, struct.unpack

local EDGES, SX, ENDQ, LAPSED, FEED = P .. 'edges', P .. 'sx', P .. 'endq', P .. 'lapsed', P .. 'ends'
local FEED_UNIT = 1024      -- feed positions per millisecond of store time
local FEED_KEEP = 600000    -- ms
local SWEEP, TRIM, FEED_PAGE, SEAL_PAGE, SEAL_RANGES, KEEP_SEALS, KEEP_ROWS =
  2000, 200, 4096, 6000, 64, 600, 1200
local LIVING = 3000         -- ms: an edge heard of so recently counts as living

local function num(v) return tonumber(v or 0) or 0 end
local function int(n) return string.format('%.0f', n) end
local function hget(f) return call('HGET', C, f) end
local function set(...) return call('HSET', C, ...) end

-- Store time never goes back, whatever the clocks of successive servers say.
local function clock(last)
  local t = call('TIME')
  return max(t[1] * 1000 + floor(t[2] / 1000), num(last))
end
