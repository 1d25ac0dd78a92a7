--- decide: the estimate, the rules and the placement put together

local M = ...
local decide, units, policy, place = M.decide, M.units, M.policy, M.place
local format = string.format

--- Which of the wished locations nobody has configured; nil if all are known.
function decide.unknown_location(asked, o)
  for _, name in ipairs(asked.locations or {}) do
    if not o.names[name] then return name end
  end
  return nil
end

--- The partition where plain sbatch would run a job, or nil and why that is not known.
function decide.home_of(job, o, home_cluster)
  local cluster = job.clusters[1] or home_cluster
  if not o.clusters[cluster] then
    return nil, format("cluster %s is not in the outlook", cluster ~= "" and cluster or "(unknown)")
  end
  if job.partitions[1] then
    local named = o.partitions[cluster .. "/" .. job.partitions[1]]
    return named, not named and format("cluster %s has no partition %s", cluster, job.partitions[1]) or nil
  end
  local default = o.defaults[cluster]
  return default, not default and format("cluster %s has no default partition, and no --partition was given", cluster) or nil
end

function decide.location(o, partition)
  for _, location in ipairs(o.locations) do
    if location.cluster == partition.cluster and location.partition == partition.name then return location end
  end
  return nil
end

--- The placements of a job at one location: at once, and, if there is a latest start, the best by then.
function decide.placements(job, o, location, partition, home, run_time_s, now, latest)
  local together, waves = policy.in_waves(job, partition)
  local zone, run_s = location.zone, run_time_s * waves
  local busy = job.array_tasks * job.array_waves / (together * waves) -- the last round may be half empty
  local power_w = policy.power_w(job, together, location, partition, home) * busy
  local g_per_s, owed = power_w / 3.6e6, nil
  if location.prices then
    local price = place.price({cores = job.cpus * together, gpus = job.gpus * together, nodes = job.nodes * together,
      memory_gb = (job.memory_mb_per_node or 0) * job.nodes * together / 1024, power_kw = power_w / 1000}, location)
    owed = price and place.still_due(price, zone, now, (latest or now) + run_s)
  end
  local emissions_g, cost_g = place.cost(zone, run_s, now, g_per_s, owed)
  local at_once = {location = location, start = now, emissions_g = emissions_g, cost_g = cost_g, run_time_s = run_s,
    power_w = power_w}
  if not latest then return at_once end
  local start
  start, emissions_g, cost_g = place.best_start(zone, run_s, now, latest, g_per_s, o.policy.delay_g_per_h, owed)
  return at_once, {location = location, start = start, emissions_g = emissions_g, cost_g = cost_g, run_time_s = run_s,
    power_w = power_w}
end

local function left(reason) return {reason = reason} end

--- What to do with a job: {chosen, baseline, latest, bound, reason, alternatives}, `chosen` nil where it is left as it is.
-- `ruled_out` says why locations, by name, cannot take it. Raises a mistake for a wish that names no location.
function decide.decide(job, owner, asked, o, home_cluster, now, ruled_out)
  local unknown = decide.unknown_location(asked, o)
  if unknown then units.mistake(format("locations: no location '%s'", unknown:sub(1, 60))) end
  local home, problem = decide.home_of(job, o, home_cluster)
  if not home then return left(problem) end
  local home_name = home.cluster .. "/" .. home.name
  local reason = policy.why_left_alone(job, owner, o.policy, home.name)
  if reason then return left(reason) end
  if asked.off then return left("--carbon-off was given") end
  local run_time_s, source = job.time_limit_s, "--time"
  if not run_time_s then run_time_s, source = home.default_time_s, "default of " .. home_name end
  if not run_time_s then return left(format("no --time was given and %s has no default", home_name)) end
  local home_location = decide.location(o, home)
  if not home_location then return left(home_name .. ", where it would run, is not a configured location") end
  local home_cluster_of = o.clusters[home.cluster]
  problem = policy.why_not_there(job, owner, {}, o.policy, home_location, home, home_cluster_of, home, home_cluster_of)
  if problem then return left(format("%s, where sbatch sends it: %s", home_location.name, problem)) end

  local _, waves = policy.in_waves(job, home)
  local latest, bound = policy.window(asked, o.policy, now, run_time_s * waves)
  local baseline = decide.placements(job, o, home_location, home, home, run_time_s, now)
  local at_once, best, alternatives = {}, {}, {}
  for pass = 1, 2 do -- of equals the like-named wins
    for _, location in ipairs(o.locations) do
      if (location.partition == home.name) == (pass == 1) then
        local partition = o.partitions[location.name]
        local why = ruled_out and ruled_out[location.name] or policy.why_not_there(job, owner, asked, o.policy, location, partition,
          o.clusters[location.cluster], home, home_cluster_of)
        if not why and location.zone.kind ~= home_location.zone.kind then
          why = format("its intensity (%s) cannot be compared with that of %s (%s)", location.zone.kind, home_location.name,
            home_location.zone.kind)
        end
        local found
        if not why then
          local _, waves_there = policy.in_waves(job, partition)
          local latest_there = latest
          if waves_there ~= waves then latest_there = policy.window(asked, o.policy, now, run_time_s * waves_there) end
          at_once[#at_once + 1], found = decide.placements(job, o, location, partition, home, run_time_s, now, latest_there)
          best[#best + 1] = found
        end
        alternatives[#alternatives + 1] = {location = location, best = found, why_not = why or ""}
      end
    end
  end
  local chosen
  chosen, reason = policy.choose(baseline, at_once, best, o.policy)
  if chosen and chosen.location == home_location and chosen.start == now then
    chosen, reason = nil, "at once and where it is, is best"
  end
  return {chosen = chosen, baseline = baseline, earliest = now, latest = latest, bound = bound, reason = reason,
    run_time_by = source, alternatives = alternatives}
end
