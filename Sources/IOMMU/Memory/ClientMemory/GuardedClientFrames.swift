// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import Synchronization

/// The state of client memory and its lock. `PhysicalMemory` owns the object.
///
/// The thread that handles faults in mapped files has a weak reference. An object with a weak
/// reference is retained and released by the slow path of the Swift runtime, so the reference is to
/// this object and not to `PhysicalMemory`, which is retained for each table and each access.
final class GuardedClientFrames: Sendable {
  let state: Mutex<ClientFrames>
  private let window: FrameWindow

  init(_ frames: sending ClientFrames, window: FrameWindow) {
    state = Mutex(frames)
    self.window = window
    state.withLock { state in
      state.setFaultResolver { [weak self] address, kind in
        self?.resolveFault(kind, at: address) ?? (.init(start: nil, count: 0), .file)
      }
    }
  }

  /// Decides what an access of this process to `address` sees. Called on the thread that handles
  /// faults, without a lock.
  private func resolveFault(
    _ kind: FilePageFaults.Kind, at address: UInt64
  ) -> (UnsafeMutableRawBufferPointer, FilePageFaults.Answer) {
    let physical = PhysicalAddress(address - UInt64(UInt(bitPattern: window.base)))
    let (frames, answer) = state.withLock { $0.resolveFault(kind, at: physical) }
    return (
      UnsafeMutableRawBufferPointer(
        start: window.pointer(PhysicalAddress(frame: frames.lowerBound)),
        count: frames.count << Frame.shift), answer
    )
  }
}
