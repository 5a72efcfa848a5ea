int CYardstick_placeholder(void) { return 0; }
