package policy

// Override is one subject's own plan or limits, parsed: either Plan or Limits is set. It outlives the snapshot that
// parsed it; a plan that the policy in force no longer has makes it count as no override.
type Override struct {
	Plan   string
	Limits *Limits
}
