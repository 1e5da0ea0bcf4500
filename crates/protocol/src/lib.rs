//! What travels: wire types, limits, and the domain types they parse into.
