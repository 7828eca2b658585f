//! The maths the engine runs on: pure functions over slices.
