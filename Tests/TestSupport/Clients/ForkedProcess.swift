// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import Host
internal import SystemPackage

/// A child process with two private pages, which begin with the words 0x1111 and 0x2222.
package final class ForkedProcess {
  package let space: AddressSpace
  package let address: UInt64
  private let id: pid_t
  private let pages: UnsafeMutableRawPointer

  package init() throws {
    pages = mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    pages.storeBytes(of: 0x1111, as: UInt64.self)
    pages.storeBytes(of: 0x2222, toByteOffset: 4096, as: UInt64.self)
    address = UInt64(UInt(bitPattern: pages))
    id = try Self.spawn()
    space = try AddressSpace(of: HostTask(id: id))
  }

  /// The child closes the parent's descriptors and sleeps until it is killed.
  private static func spawn() throws -> pid_t {
    let fork = dlsym(nil, "fork").map { unsafeBitCast($0, to: (@convention(c) () -> pid_t).self) }
    guard let fork else { throw Errno.notSupported }
    let parent = getpid()
    let id = fork()
    if id == 0 {
      for descriptor in 0..<Int32(256) { close(descriptor) }
      while getppid() == parent { usleep(100_000) }
      _exit(0)
    }
    return id
  }

  package func end() {
    kill(id, SIGKILL)
    var status: Int32 = 0
    waitpid(id, &status, 0)
  }

  deinit {
    end()
    munmap(pages, 8192)
  }
}
