from absl import app, flags, logging

import jax

FLAGS = flags.FLAGS
flags.DEFINE_float("learning_rate", 1e-4, "Peak learning rate.", lower_bound=0.0)
flags.DEFINE_integer("seed", 0, "Seed.")
flags.DEFINE_enum("schedule", "cosine", ["cosine", "linear", "constant"], "How the rate falls.")
flags.DEFINE_bool("use_remat", True, "Recompute activations.")
flags.DEFINE_list("hidden", ["512", "256"], "Units of each layer.")
flags.DEFINE_string("workdir", None, "Where to write.", required=True)
flags.DEFINE_multi_integer("eval_at", [100, 200], "Steps.")


def main(argv):
    del argv
    logging.info("seed %d", FLAGS.seed)


if __name__ == "__main__":
    app.run(main)
