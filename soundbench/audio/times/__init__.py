"""When recordings began: `starts` by their headers or names, `headers` what a header states."""
