/* Runs the relay until it is killed; returns an exit code when it can't. */
int run_relay(int argc, char **argv);
