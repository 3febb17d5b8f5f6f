import hydra


@hydra.main("../nowhere", "settings")
def run(cfg):
    pass


run()
