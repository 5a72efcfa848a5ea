// SPDX-License-Identifier: Apache-2.0

// The launcher of `iommufd-sim run`: unmodified programs use /dev/iommu without root and without a
// node in /dev. A seccomp filter (SyscallFilter) traps those of their system calls that may concern
// a device and passes them to this process, the supervisor. The supervisor answers them
// (Supervisor) from the same devices that the CUSE front end serves, or has the kernel execute
// them.
//
//   program ──openat("/dev/iommu")──▶ supervisor: device.open() ──▶ stand-in file ──▶ program's fd
//   program ──ioctl(fd, …)──────────▶ supervisor: stand-in's inode ──▶ OpenFile.ioctl()
//   program ──close(fd)─────────────▶ kernel ──inotify──▶ supervisor: OpenFile.release()
//
// fork and exec keep the filter, so child processes are served too. The filter cannot be removed:
// when the supervisor is killed, trapped calls fail with ENOSYS.

internal import CLinux
internal import FrontEnd
internal import Glibc
package import Host
package import Logging
internal import SystemPackage

package struct LauncherOptions: Sendable {
  /// `nil` without `--trace`.
  package var trace: CallTrace?
  /// Whether the processes that PROGRAM leaves behind are killed when it ends. Otherwise they are
  /// served until they end.
  package var killsChildren = false
  /// Called when a process whose memory a device uses ends or executes another program. The process
  /// waits meanwhile, so its memory can still be read.
  package var processEnds: (@Sendable (AddressSpace) -> Void)?
  /// Whether programs see the kernel's interface of fault injection: fail-nth of each thread, and
  /// debugfs.
  package var failNth = false
  /// Returns the pinned pages of a process, which /proc/<pid>/status adds to the host's VmPin and
  /// VmLck. `nil` leaves the host's file unchanged.
  package var pinnedPages: (@Sendable (_ process: Int32) -> PinnedPages)?
  /// See ``GrantedCapabilities``.
  package var grants: Set<Capability> = []
