"""What the launcher `csbatch` starts: as short as it can be, because Python compiles a main file at every start."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/")[0] + "/..")
    from slurm_carbon.launch import leave, main

    leave(main())
