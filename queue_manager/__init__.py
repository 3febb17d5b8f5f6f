"""What lives on the GPU host: the scheduler of one run. Standard library, psutil and nvidia-ml-py only."""
