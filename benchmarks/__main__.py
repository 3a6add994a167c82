"""`make bench`: the quick measurements. The long ones are `benchmarks.loss_at` and `benchmarks.matrix`."""

from benchmarks import memory, projection

projection.main()
memory.main()
