"""All measurements: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import estimate, health, hosts, report, research, scale, startup, turnaround

turnaround.main()
scale.main()
hosts.main()
startup.main()
report.main()
estimate.main()
health.main()
research.main()
