-- One line of JSON with the fields of a job, sorted: for comparison with the Job of Python.
return function(job)
  local function text(value)
    if type(value) == "table" then
      local items = {}
      for i, item in ipairs(value) do items[i] = text(item) end
      return "[" .. table.concat(items, ",") .. "]"
    elseif type(value) == "string" then
      return '"' .. value:gsub('[\\"]', "\\%0") .. '"'
    elseif type(value) == "number" then
      return string.format("%.17g", value)
    end
    return tostring(value)
  end
  local fields = {}
  for name, value in pairs(job) do fields[#fields + 1] = string.format('"%s":%s', name, text(value)) end
  table.sort(fields)
  return "{" .. table.concat(fields, ",") .. "}"
end
