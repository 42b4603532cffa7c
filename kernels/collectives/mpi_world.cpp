// The processes that mpirun or srun started, through MPI.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/failure.h"
#include "kernels/collectives/backends.h"
#include "kernels/collectives/launcher.h"
#include "kernels/collectives/mpi_calls.h"
#include "kernels/collectives/mpi_collectives.h"
#include "kernels/collectives/world.h"

namespace depthroute {

namespace {

struct Place {
  int rank = 0, size = 1, local_rank = 0, local_size = 1;
};

class MpiWorld : public World {
 public:
  explicit MpiWorld(const Place& place)
      : World(place.rank, place.size, place.local_rank, place.local_size),
        comm_(mpi::duplicate(MPI_COMM_WORLD, timeout())) {}
  ~MpiWorld() override;

  [[noreturn]] void abort(int status) override;

 private:
  void do_barrier() override;
  std::string do_broadcast(const std::string& bytes) override;
  std::vector<std::string> do_gather(const std::string& bytes) override;
  std::unique_ptr<Collectives> do_make_collectives(Device device, const CollectivesOptions& options) override;
  BackoffOptions backoff_options(const char* call) const { return {call, timeout()}; }

  MPI_Comm comm_;
};

MpiWorld::~MpiWorld() {
  int finalised = 0;
  (void)MPI_Finalized(&finalised);
  if (finalised) return;
  // An exception that only this process knows of: the others may be anywhere, and MPI_Finalize would wait for
  // them. The launcher ends the job when a process goes without it.
  if (std::uncaught_exceptions() > 0 && !leaving()) return;
  try {
    do_barrier();
  } catch (const std::exception& error) {
    report("depthroute", {kExitFailure, fmt::format("rank {}: at the end: {}", rank(), error.what())});
    abort(kExitFailure);
  }
  (void)MPI_Finalize();
}

void MpiWorld::do_barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  DR_MPI_CHECK(MPI_Ibarrier(comm_, &request));
  mpi::complete(request, backoff_options("barrier"));
}

std::string MpiWorld::do_broadcast(const std::string& bytes) {
  int64_t size = narrow<int64_t>(bytes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  DR_MPI_CHECK(MPI_Ibcast(&size, 1, MPI_INT64_T, 0, comm_, &request));
  mpi::complete(request, backoff_options("broadcast"));
  std::string result = is_rank_0() ? bytes : std::string(static_cast<size_t>(size), '\0');
  for (int64_t at = 0; at < size; at += mpi::max_message_bytes) {
    const int64_t count = std::min(size - at, mpi::max_message_bytes);
    DR_MPI_CHECK(MPI_Ibcast(result.data() + at, narrow<int>(count), MPI_BYTE, 0, comm_, &request));
    mpi::complete(request, backoff_options("broadcast"));
  }
  return result;
}

std::vector<std::string> MpiWorld::do_gather(const std::string& bytes) {
  constexpr int kTag = 1;
  const int64_t mine = narrow<int64_t>(bytes.size());
  std::vector<int64_t> sizes(is_rank_0() ? static_cast<size_t>(size()) : 0);
  MPI_Request request = MPI_REQUEST_NULL;
  DR_MPI_CHECK(MPI_Igather(&mine, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, 0, comm_, &request));
  mpi::complete(request, backoff_options("gather"));

  std::vector<std::string> all(sizes.size());
  std::vector<MPI_Request> requests;
  for (int r = 1; r < static_cast<int>(all.size()); ++r) {
    all[r].resize(static_cast<size_t>(sizes[r]));
    for (int64_t at = 0; at < sizes[r]; at += mpi::max_message_bytes)
      DR_MPI_CHECK(MPI_Irecv(all[r].data() + at, narrow<int>(std::min(sizes[r] - at, mpi::max_message_bytes)),
                             MPI_BYTE, r, kTag, comm_, &requests.emplace_back(MPI_REQUEST_NULL)));
  }
  if (is_rank_0()) all[0] = bytes;
  for (int64_t at = 0; !is_rank_0() && at < mine; at += mpi::max_message_bytes)
    DR_MPI_CHECK(MPI_Isend(bytes.data() + at, narrow<int>(std::min(mine - at, mpi::max_message_bytes)),
                           MPI_BYTE, 0, kTag, comm_, &requests.emplace_back(MPI_REQUEST_NULL)));
  mpi::complete(requests, backoff_options("gather"));
  return all;
}

void MpiWorld::abort(int status) {
  std::fflush(stdout);
  std::fflush(stderr);
  (void)MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

std::unique_ptr<Collectives> MpiWorld::do_make_collectives(Device device, const CollectivesOptions& options) {
  if (size() == 1 && !(device == Device::cuda && options.backend == CollectiveBackend::nccl))
    return make_single_collectives();
  if (device == Device::cuda && use_nccl(*this, options)) return make_nccl_collectives(*this, options);
  return make_mpi_collectives(mpi::duplicate(comm_, timeout()), device, options);
}

Place place_of_this_process() {
  Place place;
  DR_MPI_CHECK(MPI_Comm_rank(MPI_COMM_WORLD, &place.rank));
  DR_MPI_CHECK(MPI_Comm_size(MPI_COMM_WORLD, &place.size));
  MPI_Comm machine = MPI_COMM_NULL;
  DR_MPI_CHECK(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine));
  DR_MPI_CHECK(MPI_Comm_rank(machine, &place.local_rank));
  DR_MPI_CHECK(MPI_Comm_size(machine, &place.local_size));
  DR_MPI_CHECK(MPI_Comm_free(&machine));
  return place;
}

}  // namespace

std::unique_ptr<World> make_world() {
  const Launch launch = launch_of_environment();
  if (!launch.has_mpi) {
    if (launch.processes > 1)
      throw ConfigError("{} started {} tasks without MPI: start the program with srun --mpi=pmix",
                        launch.launcher, launch.processes);
    return make_single_world();
  }
  int provided = 0;
  // Errors of MPI_Init itself end the process with MPI's own message.
  DR_MPI_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided));
  DR_MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  if (provided < MPI_THREAD_MULTIPLE) {
    (void)MPI_Finalize();
    throw ConfigError(
        "this MPI was built without MPI_THREAD_MULTIPLE, which exchanging beside computing needs: use "
        "another");
  }
  const Place place = place_of_this_process();
  if (launch.processes > 0 && launch.processes != place.size) {
    (void)MPI_Finalize();
    throw ConfigError(
        "{} started {} processes, but MPI sees {}: this program was built with another MPI than the one that "
        "starts it",
        launch.launcher, launch.processes, place.size);
  }
  return std::make_unique<MpiWorld>(place);
}

}  // namespace depthroute
