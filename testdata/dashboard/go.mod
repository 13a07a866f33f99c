// What checks the dashboard of the chart. After a change of the version: go mod tidy.
module picket/testdata/dashboard

go 1.21

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
