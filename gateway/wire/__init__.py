"""What travels: one file a protocol, each between bytes and columns, none with a rule of its own."""
