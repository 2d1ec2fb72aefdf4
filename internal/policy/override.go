package policy

// Override is one subject's own plan or limits, parsed.
type Override struct {
	Limits *Limits
}
