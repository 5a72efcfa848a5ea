import Glibc
import Host
import Synchronization
import Testing

@testable import IOMMU

@Suite struct PortGateTests {
  private let gate = PortGate()

  /// A request is under way all the time that `meanwhile` takes, and an invalidation begins.
  /// - Parameter use: what the request says of itself.
  /// - Returns: whether the invalidation waited for its end.
  private func isAwaited(
    _ use: @escaping @Sendable (PortGate) -> Void, meanwhile: () -> Void,
    by invalidate: @escaping @Sendable () -> Void
  ) -> Bool {
    let (hasBegun, mayEnd, hasPassed) = (ThreadSemaphore(), ThreadSemaphore(), ThreadSemaphore())
    let isEarly = Atomic(false)
    let isUnderWay = Atomic(true)
    let gate = gate
    startThread(named: "request") {
      gate.lock.withLock { _ in
        gate.begin()
        use(gate)
        hasBegun.signal()
        mayEnd.wait()
        isUnderWay.store(false, ordering: .releasing)
        gate.end()
      }
    }
    hasBegun.wait()
    meanwhile()
    startThread(named: "invalidation") {
      invalidate()
      isEarly.store(isUnderWay.load(ordering: .acquiring), ordering: .releasing)
      hasPassed.signal()
    }
    usleep(20_000)
    mayEnd.signal()
    hasPassed.wait()
    return !isEarly.load(ordering: .acquiring)
  }

  @Test func onlyTheDomainInUseIsWaitedFor() {
    let gate = gate
    #expect(
      isAwaited {
        $0.use(DomainID(rawValue: 1))
      } meanwhile: {
        // The request is stalled; another domain's invalidation does not notice.
        gate.pass(space: 2)
      } by: {
        gate.pass(space: 1)
      })
    gate.pass(space: nil)
  }

  @Test func requestsByADeviceTLBAreWaitedForByItsOwnInvalidations() {
    let ports = UnitPorts()
    ports.add(gate, DeviceTLB(requester: .test(1)))
    #expect(
      isAwaited {
        $0.useDeviceTLB()
      } meanwhile: {
        ports.drain(DomainID(rawValue: 1))
        ports.invalidateDeviceTLBs(.all, pasid: nil) { $0 == .test(2) }
      } by: {
        ports.invalidateDeviceTLBs(.all, pasid: nil) { $0 == .test(1) }
      })
  }
}
