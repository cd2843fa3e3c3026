"""Reads sales.csv from the workspace, adds it up by region, prints as it goes and writes totals.csv."""

import csv
import time

totals = {}
with open("sales.csv") as file:
    for row in csv.DictReader(file):
        totals[row["region"]] = totals.get(row["region"], 0) + float(row["amount"])
        print(f"{row['region']:<8} +{row['amount']:>8}", flush=True)
        time.sleep(0.1)

with open("totals.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["region", "total"])
    writer.writerows(sorted(totals.items()))
print("wrote totals.csv")
