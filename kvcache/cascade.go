package kvcache

// Cascade shares the beginnings that live sequences have in common. They are found by content, in any number of groups and
// levels, also between sequences of the same step: full blocks are stored and computed once. A block that nobody uses any more
// is free at once; [Reuse] keeps it.
type Cascade struct{}

// Name is "cascade".
func (Cascade) Name() string { return "cascade" }

// NewManager makes a manager over a pool that nothing else uses.
func (c Cascade) NewManager(p *Pool, g Geometry) (Manager, error) {
	pol, err := c.policy(g)
	if err != nil {
		return nil, err
	}
	return newSharing(p, g, pol)
}

func (c Cascade) policy(Geometry) (policy, error) {
	return policy{name: c.Name(), cut: func(dst []piece, p Prompt) ([]piece, error) {
		return append(dst, piece{end: len(p.Tokens), keyed: true}), nil
	}}, nil
}
