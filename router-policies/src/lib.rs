//! What a request is and where it should go. No network, no clock.
