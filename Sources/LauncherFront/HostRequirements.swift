// SPDX-License-Identifier: Apache-2.0

// What the launcher needs of the host, tested before PROGRAM starts, so that a host that lacks it
// is named instead of each system call of PROGRAM failing.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

enum HostRequirements {
  /// The bytes that threads and the heap of the launcher may need.
  private static let memory = 64 << 20

  /// - Throws: `LauncherError` that names what is missing.
  static func check() throws {
    try checkProcFS()
    try checkMemoryAccess()
    try checkMemoryFile()
    try checkAllocation()
  }

  /// /proc must be mounted and belong to this process's pid namespace.
  private static func checkProcFS() throws {
    guard ProcFile.link("/proc/self", is: "\(getpid())") else {
      throw LauncherError(
        exitCode: 125,
        description: """
          /proc is not mounted, or belongs to another pid namespace: the launcher finds the \
          descriptors of its programs there
          """)
    }
  }

  /// Container profiles may forbid process_vm_readv(2).
  private static func checkMemoryAccess() throws {
    do throws(Errno) {
      var (source, copy) = (UInt64(0), UInt64(0))
      try withUnsafePointer(to: &source) { (source) throws(Errno) in
        try withUnsafeMutableBytes(of: &copy) { (copy) throws(Errno) in
          let address = UInt64(UInt(bitPattern: source))
          try HostTask(id: getpid()).read(at: address, into: copy)
        }
      }
    } catch {
      throw LauncherError(
        "process_vm_readv(2), by which the launcher reads the memory of its programs, fails", error)
    }
  }

  private static func checkMemoryFile() throws {
    do throws(Errno) {
      _ = try OwnedDescriptor(
        checking: CLinux_memfd_create("iommufd-sim", UInt32(CLinux_MFD_CLOEXEC)))
    } catch {
      throw LauncherError(
        "memfd_create(2), which makes the files of opened devices, fails", error)
    }
  }

  /// The Swift runtime ends the process when it cannot allocate memory.
  private static func checkAllocation() throws {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    let block = mmap(nil, memory, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let block, block != MAP_FAILED else {
      throw LauncherError(
        """
        the launcher may not allocate \(memory >> 20) MiB more memory \
        (RLIMIT_DATA or RLIMIT_AS, `ulimit -d`, `ulimit -v`)
        """, Errno(rawValue: errno))
    }
    munmap(block, memory)
  }
}
