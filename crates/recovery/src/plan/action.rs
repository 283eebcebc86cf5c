//! What a plan does beside its machines: the kinds of actions that a site carries out.
