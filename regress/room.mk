# Tools and helpers of the tests. A tool NAME lists its sources in NAME_SRC.
TOOLS := simchain fakechild inject lend sim simk
simchain_STATE := regress/tools/simchain_state.c regress/tools/simchain_abi.c \
	regress/tools/simchain_file.c regress/tools/simchain_method.c \
	regress/tools/simchain_rpc.c
simchain_SRC := regress/tools/simchain.c regress/tools/simchain_http.c \
	$(simchain_STATE)
# stands in for the children in the test of kmsd
fakechild_SRC := regress/tools/fakechild.c
# makes one system call in a running thread; lends a child's place to a test
inject_SRC := regress/tools/inject.c
lend_SRC := regress/tools/lend.c
# linked into every unit test
unit_SRC := $(simchain_STATE)
# clusters in one thread: of replication engines, and of whole keepers
sim_SRC := regress/sim/runner.c regress/sim/schedule.c \
	regress/sim/sim.c regress/sim/sim_world.c \
	regress/sim/sim_plan.c regress/sim/sim_actor.c regress/sim/sim_check.c \
	regress/sim/sim_pair.c
simk_SRC := regress/sim/runner.c regress/sim/schedule.c \
	regress/sim/simk.c regress/sim/simk_world.c \
	regress/sim/simk_chain.c regress/sim/simk_answer.c \
	regress/sim/simk_node.c regress/sim/simk_identity.c \
	regress/sim/simk_net.c regress/sim/simk_middle.c regress/sim/simk_app.c \
	regress/sim/simk_plan.c regress/sim/simk_check.c
