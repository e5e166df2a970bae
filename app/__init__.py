"""The desktop application and the command line; the only place where Qt is imported."""

import os

# Threads of PyTorch that wait for each other give the processor back instead of spinning. Otherwise a second busy
# process on the same cores, or the window beside its own reconstruction, slows a network down a hundredfold. It counts
# only before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
