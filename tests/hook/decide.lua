-- Decides every case of a file: one line a case, as tests/hook/test_parity.py reads it.
local carbon = dofile(arg[1])
local cases = dofile(arg[2])
local outlooks = {}
for i, text in ipairs(cases.outlooks) do outlooks[i] = carbon.outlook.parse(text) end

local function placed(p)
  if not p then return "-" end
  return string.format("%s@%.0f %.17g %.17g %.17g %.0f", p.location.name, p.start, p.emissions_g, p.cost_g, p.power_w, p.run_time_s)
end

for _, case in ipairs(cases) do
  local ok, found = pcall(carbon.decide.decide, case.job, case.owner, case.wishes, outlooks[case.outlook], case.home, case.now,
    case.ruled_out)
  if not ok then
    print("mistake", type(found) == "table" and found.mistake and "" or tostring(found))
  else
    local words = {"decision", placed(found.chosen), placed(found.baseline), found.latest and string.format("%.0f", found.latest) or "-",
      found.bound or "-", found.reason}
    for _, alternative in ipairs(found.alternatives or {}) do
      words[#words + 1] = alternative.location.name .. "=" .. placed(alternative.best) .. "=" .. alternative.why_not
    end
    local o = outlooks[case.outlook]
    words[#words + 1] = found.chosen and carbon.record.comment(case.job.comment, found, o) or "-"
    if case.record then words[#words + 1] = carbon.record.json(found, "enforce", o, case.now) end
    print(table.concat(words, "\t"))
  end
end
