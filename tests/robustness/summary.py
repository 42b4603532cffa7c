"""summary.py BUILD...: adds up what kills.py and flips.py left in BUILD/robustness, one line each for kills and flips."""
import glob
import json
import os
import sys

for kind in ("kills", "flips"):
    records = []
    for build in sys.argv[1:]:
        for path in sorted(glob.glob(f"{build}/robustness/{kind}_*.json")):
            with open(path, encoding="utf-8") as file:
                records.append(dict(json.load(file), build=os.path.basename(build)))
    ran = [record for record in records if "skipped" not in record]
    each = [f"{record['name']} {record['done']}" + (f" under {record['build']}" if record["build"] != "release" else "")
            for record in ran]
    each += [f"{record['name']} skipped: {record['skipped']}" for record in records if "skipped" in record]
    total = sum(record["of"] for record in ran)
    print(f"{kind}: {sum(record['done'] for record in ran)} of {total} ({', '.join(each) or 'none ran'}), "
          f"{sum(record['failures'] for record in ran)} failures, {len(records) - len(ran)} programs skipped")
