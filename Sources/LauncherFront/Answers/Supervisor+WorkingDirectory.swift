// SPDX-License-Identifier: Apache-2.0

// chdir(2) to a directory that the host does not have. The kernel changes a working directory only
// in a system call of the program itself. So the program gets a descriptor of the directory's
// place-holder and is made to execute fchdir(2) with it.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

extension Supervisor {
  func changeDirectory(to entry: VirtualEntry, _ call: TrappedCall) throws(Errno) -> Answer {
    guard call.architecture == .x8664 else { throw .permissionDenied }
    let placeHolder = try tree.openPlaceHolder(of: entry, flags: O_RDONLY | O_DIRECTORY)
    let number = try listener.install(placeHolder, for: call.id, closeOnExec: true)
    // The number stays open in a program that cannot be traced, for example by a debugger.
    guard CLinux_seize_for_fchdir(call.task.id, number) == 0 else { throw .permissionDenied }
    return .value(0)
  }
}
